/**
 * The copy of a message that goes to the queue of dead letters: the original with the reason and its origin in headers of
 * ours. Pure.
 */
import type { ConsumeMessage } from 'amqplib'
import { MAX_MESSAGE_BYTES } from './definitions.ts'
import type { Publication } from './publisher.ts'
import { DEAD_LETTERS } from './topology.ts'

const TIMEOUT_MS = 30_000
const MAX_REASON = 1000

/** RabbitMQ would check `user_id` against us as the publisher, and `expiration` would remove the copy. */
const DROPPED_PROPERTIES = ['userId', 'expiration']

/** @param queue the queue that the message was consumed from */
export function deadLetterOf(message: ConsumeMessage, queue: string, reason: string): Publication {
  const { fields, properties, content } = message
  const kept = Object.fromEntries(
    Object.entries(properties).filter(
      ([name, value]) => value !== undefined && !DROPPED_PROPERTIES.includes(name),
    ),
  )
  return {
    exchange: '',
    routingKey: DEAD_LETTERS.name,
    content: content.subarray(0, MAX_MESSAGE_BYTES),
    options: {
      ...kept,
      persistent: true,
      headers: {
        ...properties.headers,
        'howdah-reason': reason.slice(0, MAX_REASON),
        'howdah-queue': queue,
        'howdah-exchange': fields.exchange,
        'howdah-routing-key': fields.routingKey,
        ...(content.length > MAX_MESSAGE_BYTES && { 'howdah-original-bytes': content.length }),
      },
    },
    unroutable: `there is no queue ${DEAD_LETTERS.name}`,
    timeoutMs: TIMEOUT_MS,
  }
}
