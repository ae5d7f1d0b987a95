/**
 * The copy of a message that goes to the queue of dead letters: its body and descriptive properties, with the reason, its
 * origin and its own headers in headers of ours. Pure.
 */
import type { ConsumeMessage } from 'amqplib'
import { MAX_MESSAGE_BYTES } from './definitions.ts'
import { headersText } from './foreign-headers.ts'
import type { Publication } from './publication.ts'
import { DEAD_EXCHANGE, DEAD_LETTERS } from './topology.ts'

const TIMEOUT_MS = 30_000
const MAX_REASON = 1000
/** Bytes that are kept of the headers of the original. */
const KEPT_HEADERS_BYTES = 4096
/** When the copy was made. */
export const DEAD_AT_HEADER = 'howdah-dead-at'
/** RabbitMQ gives it a meaning where a message is published, and replaces it before it delivers the message. */
const PSEUDO_QUEUE = 'amq.rabbitmq.reply-to'

/** Properties that only describe. RabbitMQ acts on the others: it checks the user and drops what expires. */
const KEPT_PROPERTIES = [
  ...['type', 'messageId', 'correlationId', 'replyTo', 'appId'],
  ...['contentType', 'contentEncoding', 'timestamp'],
] as const

/** @param queue the queue that the message was consumed from */
export function deadLetterOf(
  message: ConsumeMessage,
  queue: string,
  reason: string,
  at = new Date(),
): Publication {
  const { fields, properties, content } = message
  const kept = KEPT_PROPERTIES.flatMap((name) => {
    const value: unknown = properties[name]
    return value === undefined || value === PSEUDO_QUEUE ? [] : [[name, value] as const]
  })
  return {
    exchange: DEAD_EXCHANGE.name,
    routingKey: fields.routingKey,
    content: content.subarray(0, MAX_MESSAGE_BYTES),
    options: {
      ...Object.fromEntries(kept),
      persistent: true,
      headers: {
        'howdah-reason': reason.slice(0, MAX_REASON),
        [DEAD_AT_HEADER]: at.toISOString(),
        'howdah-queue': queue,
        'howdah-exchange': fields.exchange,
        'howdah-routing-key': fields.routingKey,
        'howdah-original-headers': headersText(properties.headers, KEPT_HEADERS_BYTES),
        ...(typeof properties.userId === 'string' && { 'howdah-user': properties.userId }),
        ...(content.length > MAX_MESSAGE_BYTES && { 'howdah-original-bytes': content.length }),
      },
    },
    unroutable: `no queue takes dead letters: ${DEAD_LETTERS.name} is missing`,
    timeoutMs: TIMEOUT_MS,
  }
}
