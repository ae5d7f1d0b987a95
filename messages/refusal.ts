/** The errors of a publication that RabbitMQ or amqplib refuses: what was refused, and what to do about it. Pure. */

import { HowdahError } from './errors.ts'
import type { Publication } from './publication.ts'

/** The method of AMQP 0-9-1 that an error is about: basic.publish. */
const BASIC_PUBLISH = { classId: 60, methodId: 40 }
const ACCESS_REFUSED = 403
const NOT_FOUND = 404

export interface ChannelError extends Error {
  readonly code?: number
  readonly classId?: number
  readonly methodId?: number
}

/** Whether RabbitMQ closed the channel because of a message that was published on it. */
export function isPublishError({ classId, methodId }: ChannelError): boolean {
  return classId === BASIC_PUBLISH.classId && methodId === BASIC_PUBLISH.methodId
}

/** Which later messages RabbitMQ would refuse for the same reason: to the exchange, with the same routing key, or none. */
export function extentOf({ code, message }: ChannelError): 'exchange' | 'route' | 'message' {
  if (code === NOT_FOUND) return 'exchange'
  if (code !== ACCESS_REFUSED) return 'message'
  // The same code stands for a permission on the exchange and one on a topic of it; only the text tells them apart.
  return /\b(?:access to|to internal) exchange '/.test(message) ? 'exchange' : 'route'
}

/** @returns `configuration` | `unroutable` | `message_too_large` */
export function refusal(error: ChannelError, publication: Publication): HowdahError {
  const { exchange, routingKey, content, unroutable } = publication
  const where = `the exchange ${exchange === '' ? '(default)' : exchange} with the routing key ${routingKey}`
  const options = { cause: error }
  if (error.code === ACCESS_REFUSED) {
    const text = `RabbitMQ does not allow this user to publish to ${where}: check its permissions. ${error.message}`
    return new HowdahError('configuration', text, options)
  }
  if (error.code === NOT_FOUND) {
    return new HowdahError('unroutable', unroutable ?? `there is no exchange ${exchange}`, options)
  }
  // RabbitMQ has no code of its own for a message above its max_message_size.
  if (/\bmessage size \d+/.test(error.message)) {
    const text = `RabbitMQ does not take a message of ${content.length} bytes to ${where}: its max_message_size is lower`
    return new HowdahError('message_too_large', text, options)
  }
  return new HowdahError('configuration', `RabbitMQ refused a message to ${where}. ${error.message}`, options)
}

/** The error of a publication that amqplib cannot put into frames, such as one with headers of more than 64 KiB. */
export function unencodable(error: unknown, { exchange, routingKey }: Publication): HowdahError {
  const text = error instanceof Error ? error.message : String(error)
  const where = exchange === '' ? routingKey : `${exchange} (${routingKey})`
  return new HowdahError(
    error instanceof RangeError ? 'message_too_large' : 'internal',
    `a message to ${where} cannot be encoded: ${text}`,
    { cause: error },
  )
}
