/**
 * Consumes one queue: validates each delivery, passes it to the handler, and settles it by the outcome.
 *
 * A delivery that breaks the contract is refused, with a reply if it asks for one, and dead-lettered. One whose handler
 * fails is retried a bounded number of times with backoff, and then dead-lettered. No content of a message stops the
 * consumer.
 */
import type { ConfirmChannel, ConsumeMessage, RecoveringChannelModel } from 'amqplib'
import type { Logger } from 'pino'
import { type Backoff, backoffMs } from './backoff.ts'
import type { Consumer, Delivery, Outcome } from './bus.ts'
import { decodeDelivery, type Expected } from './envelope.ts'
import { type ErrorBody, errorBody } from './errors.ts'
import { createRecoveringChannel } from './recovering-channel.ts'
import { atMost, pause } from './wait.ts'

export interface Redelivery extends Backoff {
  /** Deliveries of one message before it is dead-lettered; fewer than the queue's own limit. */
  readonly tries: number
}

export interface ConsumerOptions {
  readonly connection: RecoveringChannelModel
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  readonly queue: string
  readonly prefetch: number
  readonly redelivery: Redelivery
  readonly expected: Expected
  readonly logger: Logger
  declare(channel: ConfirmChannel): Promise<void>
  handle(delivery: Delivery): Promise<Outcome>
  /** Replies to a message that is refused. */
  refuse(message: ConsumeMessage, error: ErrorBody): Promise<void>
  /** Resolves when the copy is confirmed. */
  deadLetter(message: ConsumeMessage, queue: string, reason: string): Promise<void>
}

/** How long `close` waits for handlers. RabbitMQ delivers again what they have not settled by then. */
const CLOSE_DEADLINE_MS = 10_000
/** How long to wait for RabbitMQ to confirm a cancel, which it never does while it does not read from the connection. */
const CANCEL_MS = 2_000

export async function startConsumer(options: ConsumerOptions): Promise<Consumer> {
  const { connection, ended, queue, prefetch, redelivery, expected, logger } = options
  const running = new Set<Promise<void>>()
  const closing = new AbortController()
  let tag: string | undefined

  const recoveringChannel = createRecoveringChannel({
    connection,
    ended,
    purpose: `consume ${queue}`,
    logger,
    async setUp(channel) {
      await options.declare(channel)
      await channel.prefetch(prefetch)
      const consuming = await channel.consume(queue, (message) => {
        if (message === null) {
          logger.warn({ queue }, 'RabbitMQ cancelled the consumer, starting it again')
          recoveringChannel.reopen()
          return
        }
        const handling = settle(channel, message).finally(() => running.delete(handling))
        running.add(handling)
      })
      tag = consuming.consumerTag
    },
  })

  /** Never rejects. */
  async function settle(channel: ConfirmChannel, message: ConsumeMessage): Promise<void> {
    try {
      const decision = await decide(message)
      if (decision === 'retry') {
        await pause(backoffMs(deliveryCount(message) + 1, redelivery), closing.signal)
        onChannel(() => channel.nack(message, false, true))
        return
      }
      if (decision !== 'ack') await options.deadLetter(message, queue, decision.deadLetter)
      onChannel(() => channel.ack(message))
    } catch (error) {
      logger.error({ err: error, queue }, 'a delivery could not be settled')
      await pause(backoffMs(1, redelivery), closing.signal)
      onChannel(() => channel.nack(message, false, true))
    }
  }

  /** RabbitMQ delivers again what is settled on a channel that is gone. */
  function onChannel(act: () => void): void {
    try {
      act()
    } catch {
      logger.debug({ queue }, 'the channel of a delivery is gone')
    }
  }

  async function decide(message: ConsumeMessage): Promise<Outcome | 'retry'> {
    const { delivery, refused } = decodeDelivery(message, expected)
    if (refused) {
      logger.warn({ queue, error: refused }, 'refused a message')
      await options.refuse(message, refused)
      return { deadLetter: `${refused.code}: ${refused.message}` }
    }
    try {
      return await options.handle(delivery)
    } catch (error) {
      logger.error({ err: error, queue, type: delivery.type }, 'the handler of a message failed')
      if (deliveryCount(message) + 1 < redelivery.tries) return 'retry'
      const { code, message: text } = errorBody(error)
      return { deadLetter: `its handler failed ${redelivery.tries} times; ${code}: ${text.slice(0, 500)}` }
    }
  }

  try {
    await recoveringChannel.opened
  } catch (error) {
    await recoveringChannel.close()
    throw error
  }
  return {
    async close() {
      const cancelled = tag === undefined ? undefined : recoveringChannel.current?.cancel(tag).catch(() => {})
      if (cancelled) await atMost(CANCEL_MS, cancelled)
      closing.abort()
      await atMost(CLOSE_DEADLINE_MS, Promise.all(running))
      await recoveringChannel.close()
    },
  }
}

/**
 * Earlier deliveries of this message by its quorum queue. RabbitMQ counts returned and lost ones in `x-delivery-count`,
 * which the first delivery lacks; releases after 4.0 count those that were requeued on purpose in `x-acquired-count`.
 */
function deliveryCount({ properties }: ConsumeMessage): number {
  const count = (name: string): number => {
    const value: unknown = properties.headers?.[name]
    return typeof value === 'number' && value > 0 ? value : 0
  }
  return Math.max(count('x-delivery-count'), count('x-acquired-count'))
}
