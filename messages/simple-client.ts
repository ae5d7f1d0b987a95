/**
 * Clients that can set headers but not every property, such as amqp-publish in a shell, send `type` and `message_id` as
 * headers. A property that is there counts.
 */
import type { ConsumeMessage } from 'amqplib'

export const TYPE_HEADER = 'howdah-type'
export const MESSAGE_ID_HEADER = 'howdah-message-id'

/** Untrusted; undefined when the message has none. */
export function typeOf({ properties }: Pick<ConsumeMessage, 'properties'>): unknown {
  return properties.type ?? properties.headers?.[TYPE_HEADER]
}

/** As `typeOf`. */
export function messageIdOf({ properties }: Pick<ConsumeMessage, 'properties'>): unknown {
  return properties.messageId ?? properties.headers?.[MESSAGE_ID_HEADER]
}
