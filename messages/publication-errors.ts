/** The errors of publications: what was refused or is late, why, and what to do about it. Pure. */

import { brokerBlocked } from './broker-alarm.ts'
import { HowdahError } from './errors.ts'
import type { Publication } from './publication.ts'
import { Unavailable } from './unavailable.ts'

/** The method of AMQP 0-9-1 that an error is about: basic.publish. */
const BASIC_PUBLISH = { classId: 60, methodId: 40 }
const ACCESS_REFUSED = 403
const NOT_FOUND = 404
const INTERNAL_ERROR = 541

export interface ChannelError extends Error {
  readonly code?: number
  readonly classId?: number
  readonly methodId?: number
}

/** Whether RabbitMQ closed the channel because of a message that was published on it. */
export function isPublishError({ classId, methodId }: ChannelError): boolean {
  return classId === BASIC_PUBLISH.classId && methodId === BASIC_PUBLISH.methodId
}

/** Whether RabbitMQ closed a connection because it failed itself. */
export function isInternalError({ code }: ChannelError): boolean {
  return code === INTERNAL_ERROR
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
  if (error.code === INTERNAL_ERROR) {
    const text = `RabbitMQ fails on a message to ${where}: an answer to a client that is not connected any more, or never was`
    return new HowdahError('unroutable', text, options)
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

/** Holds for messages that were sent before RabbitMQ stopped reading. */
export const MAY_STILL_ARRIVE = 'What was sent before may still arrive then.'

export interface OverdueState {
  /** Why RabbitMQ takes no messages. */
  readonly blocked: string | undefined
  readonly isOpen: boolean
  /** Why there is no channel. */
  readonly failure: HowdahError | undefined
}

interface Overdue extends Publication {
  /** It was sent, and RabbitMQ has not answered. */
  readonly inFlight: boolean
  /** How often RabbitMQ answered by `basic.nack`. */
  readonly refusals: number
}

/** The error of a publication that was not confirmed in time. */
export function overdue(publication: Overdue, { blocked, isOpen, failure }: OverdueState): HowdahError {
  const { timeoutMs, inFlight, refusals, routingKey } = publication
  if (blocked !== undefined) return brokerBlocked(blocked, inFlight ? MAY_STILL_ARRIVE : '')
  const seconds = timeoutMs / 1000
  if (isOpen && refusals > 0) {
    return new HowdahError(
      'broker_unavailable',
      `RabbitMQ refused a message to ${routingKey} ${refusals} times in ${seconds} s: the queue is full, by a policy with reject-publish, or has lost the majority of its nodes`,
    )
  }
  if (isOpen) return new HowdahError('timeout', `RabbitMQ did not confirm a message within ${seconds} s`)
  if (failure?.code === 'configuration') return failure
  return new Unavailable(
    `there was no connection to RabbitMQ for ${seconds} s${failure ? `: ${failure.message}` : ''}`,
    { code: 'broker_unavailable', cause: failure },
  )
}

/** The error of a publication on a bus that is closed. */
export const closed = (message: string): Unavailable =>
  new Unavailable(message, { code: 'broker_unavailable' })
