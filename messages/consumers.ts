/**
 * The consumers of one bus: what each declares before it consumes, and how all are closed. A consumer of a work queue
 * answers and dead-letters what breaks the contract; a watch has a queue of its own and ignores it.
 */
import { randomUUID } from 'node:crypto'
import type { RecoveringChannelModel } from 'amqplib'
import type { Logger } from 'pino'
import type { Consumer, Delivery, EventDelivery, Outcome } from './bus.ts'
import { type ConsumerOptions, type Redelivery, startConsumer } from './consumer.ts'
import { deadLetterOf } from './dead-letter.ts'
import { declareDeadLetters, declareExchanges, declareQueue } from './declare.ts'
import { EXPECT_EVENTS, type Expected } from './envelope.ts'
import type { Publisher } from './publisher.ts'
import type { Replies } from './replies.ts'
import { EVENTS_EXCHANGE, type Queue } from './topology.ts'

/** Watches only look at events, so many may be under way. */
const WATCH_PREFETCH = 100

export interface Consumers {
  /** Declares the queue and consumes it. @throws HowdahError `configuration` | `broker_unavailable` */
  consume(
    queue: Queue,
    expected: Expected,
    handle: (delivery: Delivery) => Promise<Outcome>,
  ): Promise<Consumer>
  /**
   * Consumes the events that match a topic pattern, on an exclusive queue that is declared again, empty, after a
   * reconnect; `onMissed` is called then. @throws as `consume`
   */
  watch(pattern: string, handle: (delivery: EventDelivery) => void, onMissed?: () => void): Promise<Consumer>
  /** Closes all that are open. */
  close(): Promise<void>
}

export interface ConsumersOptions {
  readonly connection: RecoveringChannelModel
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  readonly prefetch: number
  readonly redelivery: Redelivery
  readonly publisher: Publisher
  readonly replies: Replies
  readonly logger: Logger
}

export function createConsumers(options: ConsumersOptions): Consumers {
  const { connection, ended, prefetch, redelivery, publisher, replies, logger } = options
  const open = new Set<Consumer>()

  async function start(
    consumerOptions: Omit<ConsumerOptions, 'connection' | 'ended' | 'logger'>,
  ): Promise<Consumer> {
    const consumer = await startConsumer({ connection, ended, logger, ...consumerOptions })
    const entry: Consumer = {
      async close() {
        if (open.delete(entry)) await consumer.close()
      },
    }
    open.add(entry)
    return entry
  }

  return {
    consume: (queue, expected, handle) =>
      start({
        queue: queue.name,
        prefetch,
        redelivery,
        expected,
        async declare(channel) {
          await declareExchanges(channel)
          await declareDeadLetters(connection, logger)
          await declareQueue(channel, queue)
        },
        handle,
        refuse: replies.refuse,
        deadLetter: (message, from, reason) => publisher.publish(deadLetterOf(message, from, reason)),
      }),

    watch(pattern, handle, onMissed = () => {}) {
      let isFirst = true
      const queue = `howdah.watch.${randomUUID()}`
      return start({
        queue,
        prefetch: WATCH_PREFETCH,
        redelivery: { ...redelivery, tries: 1 },
        expected: EXPECT_EVENTS,
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
        // The coordinator consumes the same event from its own queue, and dead-letters it there.
        refuse: async () => {},
        deadLetter: async () => {},
      })
    },

    async close() {
      await Promise.all([...open].map((consumer) => consumer.close()))
    },
  }
}
