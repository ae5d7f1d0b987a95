/**
 * The consumers of one bus: what each declares before it consumes, and how all are closed. A consumer of a work queue
 * answers and dead-letters what breaks the contract; a watch has a queue of its own and ignores it.
 */
import { randomUUID } from 'node:crypto'
import type { ConfirmChannel, ConsumeMessage } from 'amqplib'
import type { Logger } from 'pino'
import type { Consumer, Delivery, EventDelivery, Outcome } from './bus.ts'
import { type BusObserver, UNOBSERVED } from './bus-observer.ts'
import type { Channels } from './channels.ts'
import { type ConsumerOptions, type Redelivery, startConsumer } from './consumer.ts'
import { deadLetterOf } from './dead-letter.ts'
import { EXPECT_SESSION_EVENTS, type Expected } from './envelope.ts'
import type { ErrorBody } from './errors.ts'
import type { Publishing } from './publishing.ts'
import type { Replies } from './replies.ts'
import { EVENTS_EXCHANGE, type Queue, WATCH_PREFIX } from './topology.ts'

/** Watches only look at events, so many may be under way. */
const WATCH_PREFETCH = 100

export interface Work {
  readonly queue: Queue
  readonly expected: Expected
  /** Called on each new channel before it consumes: declares the queue, or makes sure that it exists. Default: nothing. */
  prepare?(channel: ConfirmChannel): Promise<void>
  handle(delivery: Delivery): Promise<Outcome>
  /** Called for a message that breaks the contract, beside the reply to it. */
  refused?(message: ConsumeMessage, error: ErrorBody): Promise<void>
  /** Default: that of the bus. */
  readonly prefetch?: number
}

export interface Consumers {
  /** Consumes a queue. @throws HowdahError `configuration` | `broker_unavailable` */
  consume(work: Work): Promise<Consumer>
  /**
   * Consumes the events that match a topic pattern, on an exclusive queue that is declared again, empty, after a
   * reconnect; `onMissed` is called then. @throws as `consume`
   */
  watch(pattern: string, handle: (delivery: EventDelivery) => void, onMissed?: () => void): Promise<Consumer>
  /** Closes all that are open. */
  close(): Promise<void>
}

export interface ConsumersOptions {
  readonly connection: Channels
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  /** Of all consumers. */
  readonly tag: string
  readonly prefetch: number
  readonly redelivery: Redelivery
  readonly publishing: Pick<Publishing, 'publish'>
  readonly replies: Replies
  /** Default: nobody counts. */
  readonly observer?: Pick<BusObserver, 'received'>
  readonly logger: Logger
}

export function createConsumers(options: ConsumersOptions): Consumers {
  const {
    connection,
    ended,
    tag,
    prefetch,
    redelivery,
    publishing,
    replies,
    observer = UNOBSERVED,
    logger,
  } = options
  const open = new Set<Consumer>()

  async function start(
    consumerOptions: Omit<ConsumerOptions, 'connection' | 'ended' | 'tag' | 'observer' | 'logger'>,
  ): Promise<Consumer> {
    const consumer = await startConsumer({ connection, ended, tag, observer, logger, ...consumerOptions })
    const entry: Consumer = {
      get isConsuming() {
        return consumer.isConsuming
      },
      async close() {
        if (open.delete(entry)) await consumer.close()
      },
    }
    open.add(entry)
    return entry
  }

  return {
    consume: ({ queue, expected, prepare = async () => {}, handle, refused, prefetch: own = prefetch }) =>
      start({
        queue: queue.name,
        prefetch: own,
        redelivery,
        expected,
        declare: prepare,
        handle,
        async refuse(message, error) {
          await refused?.(message, error)
          await replies.refuse(message, error)
        },
        deadLetter: (message, from, reason) => publishing.publish(deadLetterOf(message, from, reason)),
      }),

    watch(pattern, handle, onMissed = () => {}) {
      let isFirst = true
      const queue = `${WATCH_PREFIX}${randomUUID()}`
      return start({
        queue,
        prefetch: WATCH_PREFETCH,
        redelivery: { ...redelivery, tries: 1 },
        expected: EXPECT_SESSION_EVENTS,
        async declare(channel) {
          await channel.assertQueue(queue, { exclusive: true, autoDelete: true, durable: false })
          await channel.bindQueue(queue, EVENTS_EXCHANGE.name, pattern)
          if (!isFirst) onMissed()
          isFirst = false
        },
        async handle(delivery) {
          handle(delivery as EventDelivery)
          return 'ack'
        },
        // A watch only looks: other watches got the same event.
        refuse: async () => {},
        deadLetter: async () => {},
      })
    },

    async close() {
      await Promise.all([...open].map((consumer) => consumer.close()))
    },
  }
}
