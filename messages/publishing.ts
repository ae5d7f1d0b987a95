/**
 * Everything that a process publishes: on one channel per exchange, opened with the first message, so that a message for
 * which RabbitMQ closes a channel holds up nothing that goes to another exchange. Owns these channels.
 */
import type { ConfirmChannel } from 'amqplib'
import type { Logger } from 'pino'
import { type BusObserver, UNOBSERVED } from './bus-observer.ts'
import type { BrokerConnection } from './connection.ts'
import type { Publication } from './publication.ts'
import { type ChannelError, isInternalError } from './publication-errors.ts'
import { createPublisher, type Publisher } from './publisher.ts'
import { createRecoveringChannel } from './recovering-channel.ts'
import { Unavailable } from './unavailable.ts'

const DEFAULT_EXCHANGE = ''

export interface Publishing {
  /** As `Publisher.publish`. */
  publish(publication: Publication): Promise<void>
  /** Publishes what was held back while RabbitMQ took no messages. */
  resume(): void
  /** Resolves when everything is confirmed, or at the deadline. */
  drain(timeoutMs: number): Promise<void>
  /** Rejects everything that is unconfirmed, and every later publication. */
  close(): void
}

export interface PublishingOptions {
  readonly connection: BrokerConnection
  /** The user of the connection. */
  readonly userId: string
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  /** Default: nobody counts. */
  readonly observer?: Pick<BusObserver, 'publishing'>
  readonly logger: Logger
  /** Prepares a new channel of an exchange, before anything is published on it. Must be safe to repeat. */
  setUp(channel: ConfirmChannel, exchange: string): Promise<void>
  /** Called after each new channel has taken what was unconfirmed. */
  onOpen(exchange: string): void
}

export function createPublishing(options: PublishingOptions): Publishing {
  const { connection, userId, ended, observer = UNOBSERVED, logger, setUp, onOpen } = options
  const publishers = new Map<string, Publisher>()
  let isClosed = false
  // An answer by Direct Reply-to to a client whose node has gone, or to an address that somebody made up: RabbitMQ 3.10
  // ends the whole connection for it. All of these go to the default exchange.
  connection.events.on('error', (error: ChannelError) => {
    if (isInternalError(error)) publishers.get(DEFAULT_EXCHANGE)?.onConnectionError(error)
  })

  function open(exchange: string): Publisher {
    const channel = createRecoveringChannel({
      connection,
      ended,
      purpose:
        exchange === DEFAULT_EXCHANGE
          ? 'publish to the default exchange'
          : `publish to the exchange ${exchange}`,
      logger,
      setUp: (opened) => setUp(opened, exchange),
      onOpen(opened) {
        publisher.attach(opened)
        onOpen(exchange)
      },
    })
    const publisher = createPublisher({
      userId,
      channel: () => channel.current,
      reopen: () => channel.reopen(),
      failure: () => channel.failure,
      blocked: () => connection.alarm.reason,
      logger,
    })
    publishers.set(exchange, publisher)
    return publisher
  }

  return {
    async publish(publication) {
      if (isClosed) {
        throw new Unavailable('this connection to RabbitMQ was closed', { code: 'broker_unavailable' })
      }
      const { exchange } = publication
      const settled = observer.publishing()
      try {
        await (publishers.get(exchange) ?? open(exchange)).publish(publication)
        settled(true)
      } catch (error) {
        settled(false)
        throw error
      }
    },
    resume() {
      for (const publisher of publishers.values()) publisher.resume()
    },
    async drain(timeoutMs) {
      await Promise.all([...publishers.values()].map((publisher) => publisher.drain(timeoutMs)))
    },
    close() {
      isClosed = true
      for (const publisher of publishers.values()) publisher.close()
    },
  }
}
