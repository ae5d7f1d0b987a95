/**
 * The queue on which agents reply to one coordinator: exclusive, named by the coordinator and bound to `howdah.replies`.
 * Owns its channel, which declares and consumes it again after a reconnect.
 */
import { randomUUID } from 'node:crypto'
import type { ConsumeMessage } from 'amqplib'
import type { Logger } from 'pino'
import type { Channels } from './channels.ts'
import { declareExchanges } from './declare.ts'
import { createRecoveringChannel } from './recovering-channel.ts'
import { REPLIES_EXCHANGE, REPLY_QUEUE_PREFIX } from './topology.ts'

export interface AgentReplies {
  /** Where agents send their replies: its name is the `reply_to` of a query. */
  readonly queue: string
  /** Settles with the first declaration. Rejects with HowdahError `configuration`. */
  readonly opened: Promise<void>
  /** Why it is not consumed, if that is known. */
  readonly failure: Error | undefined
}

export interface AgentRepliesOptions {
  readonly connection: Channels
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  /** Of the consumer. */
  readonly tag: string
  readonly logger: Logger
  onReply(message: ConsumeMessage | null): void
  /** Replies that were sent between two channels are lost. */
  onOpen(): void
}

export function openAgentReplies(options: AgentRepliesOptions): AgentReplies {
  const { connection, ended, tag, logger, onReply, onOpen } = options
  const queue = `${REPLY_QUEUE_PREFIX}${randomUUID()}`
  const channel = createRecoveringChannel({
    ...{ connection, ended, logger, onOpen },
    purpose: 'receive the replies of agents',
    async setUp(opened) {
      await declareExchanges(opened)
      await opened.assertQueue(queue, { exclusive: true, autoDelete: true, durable: false })
      await opened.bindQueue(queue, REPLIES_EXCHANGE.name, queue)
      await opened.consume(queue, onReply, { noAck: true, consumerTag: tag })
    },
  })
  return {
    queue,
    opened: channel.opened,
    get failure() {
      return channel.failure
    },
  }
}
