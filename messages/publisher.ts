/**
 * Publishes with confirms on one channel. What was not confirmed is published again after a reconnect with the same
 * message_id; what RabbitMQ returned as unroutable rejects.
 *
 * RabbitMQ closes a channel for a single message that it refuses, without naming it. Everything that was unconfirmed then
 * is suspect and is published one by one on the next channel, so that the one for which that is closed again is known and
 * rejects; everything else is sent afterwards.
 */
import { type ConfirmChannel, IllegalOperationError, type Message } from 'amqplib'
import type { Logger } from 'pino'
import { HowdahError } from './errors.ts'
import type { Publication } from './publication.ts'
import {
  type ChannelError,
  closed,
  extentOf,
  isPublishError,
  overdue,
  refusal,
  unencodable,
} from './publication-errors.ts'
import { createRefusedRoutes } from './refused-routes.ts'
import { abortError } from './wait.ts'

const RESEND_AFTER_NACK_MS = 250

interface Pending extends Publication {
  inFlight: boolean
  /** How often RabbitMQ answered by `basic.nack`. */
  refusals: number
  returned: boolean
  settle(error?: Error): void
}

export interface Publisher {
  /** Resolves when RabbitMQ confirmed. @throws `Unavailable` (`broker_unavailable` | `broker_blocked`), HowdahError `unroutable` | `configuration` | `broker_unavailable` | `timeout` | `message_too_large` | `internal` */
  publish(publication: Publication): Promise<void>
  /** Publishes on a new channel everything that is unconfirmed. */
  attach(channel: ConfirmChannel): void
  /** Publishes what was held back while RabbitMQ took no messages. */
  resume(): void
  /** Resolves when everything is confirmed, or at the deadline. */
  drain(timeoutMs: number): Promise<void>
  /** Rejects everything that is unconfirmed, and every later publication. */
  close(): void
}

export interface PublisherOptions {
  /** The user of the connection. RabbitMQ refuses a message that names another one, so a receiver can rely on it. */
  readonly userId: string
  readonly channel: () => ConfirmChannel | undefined
  /** Why there is no channel. */
  readonly failure: () => HowdahError | undefined
  /** Why RabbitMQ takes no messages at the moment. Nothing is sent then, because it would only fill buffers. */
  readonly blocked: () => string | undefined
  readonly logger: Logger
}

/** Whether RabbitMQ has handled everything that was sent on the channel, and closed it for none of it. Changes nothing. */
async function isAlive(channel: ConfirmChannel): Promise<boolean> {
  try {
    await channel.prefetch(0)
    return true
  } catch {
    return false
  }
}

export function createPublisher(options: PublisherOptions): Publisher {
  const { userId, channel, failure, blocked, logger } = options
  const waiting = new Set<Pending>()
  const idle = new Set<() => void>()
  /** Unconfirmed when RabbitMQ closed the channel for one of them. While there are any, they are sent alone. */
  const suspects = new Set<Pending>()
  let probed: Pending | undefined
  const refused = createRefusedRoutes()
  /** The channel while it is open. */
  let attached: ConfirmChannel | undefined
  let isClosed = false

  function transmit(pending: Pending): void {
    const current = channel()
    if (!current || pending.inFlight || blocked() !== undefined) return
    if (suspects.size > 0 && pending !== probed) return
    pending.inFlight = true
    pending.returned = false
    const mandatory = pending.unroutable !== undefined
    const { exchange, routingKey, content, options } = pending
    try {
      current.publish(exchange, routingKey, content, { ...options, userId, mandatory }, (error: unknown) => {
        if (current !== attached) return // the channel was closed, it is sent again with the next one
        pending.inFlight = false
        if (error) {
          pending.refusals += 1
          logger.warn({ messageId: options.messageId }, 'RabbitMQ did not take a message, sending it again')
          setTimeout(() => waiting.has(pending) && transmit(pending), RESEND_AFTER_NACK_MS)
        } else if (pending.returned) pending.settle(new HowdahError('unroutable', pending.unroutable ?? ''))
        else pending.settle()
      })
    } catch (error) {
      pending.inFlight = false
      // While the channel is closing the next one sends it; what cannot be encoded never can.
      if (!(error instanceof IllegalOperationError)) pending.settle(unencodable(error, pending))
    }
  }

  function transmitAll(): void {
    if (suspects.size > 0) probe()
    else for (const pending of waiting) transmit(pending)
  }

  /** Sends the first suspect. RabbitMQ handles a channel in order: when a call after it succeeds, it was not refused. */
  function probe(): void {
    const current = channel()
    if (!current || probed || blocked() !== undefined) return
    for (const suspect of suspects) if (!waiting.has(suspect)) suspects.delete(suspect)
    const [first] = suspects
    if (!first) {
      transmitAll()
      return
    }
    probed = first
    transmit(first)
    void isAlive(current).then((accepted) => {
      if (!accepted || current !== channel()) return // the next channel goes on
      suspects.delete(first)
      probed = undefined
      transmitAll()
    })
  }

  function onChannelError(error: ChannelError): void {
    if (!isPublishError(error)) return
    if (!probed) {
      for (const pending of waiting) if (pending.inFlight) suspects.add(pending)
      return
    }
    const rejected = refusal(error, probed)
    logger.warn({ err: rejected, messageId: probed.options.messageId }, 'RabbitMQ refused a message')
    probed.settle(rejected)
    const extent = extentOf(error)
    if (extent === 'message') return
    refused.add(extent, probed, rejected)
    for (const pending of waiting) if (refused.find(pending)) pending.settle(rejected)
  }

  /** RabbitMQ returns a message before it confirms it, on the same channel. */
  function onReturn({ fields, properties }: Message): void {
    for (const pending of waiting) {
      if (
        pending.inFlight &&
        pending.options.messageId === properties.messageId &&
        pending.exchange === fields.exchange &&
        pending.routingKey === fields.routingKey
      ) {
        pending.returned = true
      }
    }
  }

  function expire(pending: Pending): void {
    const state = { blocked: blocked(), isOpen: channel() !== undefined, failure: failure() }
    pending.settle(overdue(pending, state))
  }

  return {
    resume: transmitAll,

    attach(current) {
      current.on('return', onReturn)
      current.once('error', onChannelError)
      attached = current
      // Before amqplib fails all confirms of the channel.
      current.prependOnceListener('close', () => {
        if (attached === current) attached = undefined
      })
      probed = undefined
      for (const pending of waiting) pending.inFlight = false
      transmitAll()
    },

    async publish(publication) {
      if (isClosed) throw closed('this connection to RabbitMQ was closed')
      const earlier = refused.find(publication)
      if (earlier) throw earlier
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const { signal, timeoutMs } = publication
      const pending: Pending = {
        ...publication,
        inFlight: false,
        refusals: 0,
        returned: false,
        settle(error) {
          if (!waiting.delete(pending)) return
          clearTimeout(timer)
          signal?.removeEventListener('abort', onAbort)
          if (error) reject(error)
          else resolve()
          if (waiting.size === 0) for (const wake of idle) wake()
        },
      }
      const onAbort = () => pending.settle(abortError(signal))
      const timer = setTimeout(() => expire(pending), timeoutMs)
      waiting.add(pending)
      if (signal?.aborted) onAbort()
      else {
        signal?.addEventListener('abort', onAbort)
        transmit(pending)
      }
      await promise
    },

    async drain(timeoutMs) {
      if (waiting.size === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, timeoutMs)
      idle.add(resolve)
      await promise
      idle.delete(resolve)
      clearTimeout(timer)
    },

    close() {
      isClosed = true
      for (const pending of waiting) {
        pending.settle(closed('the connection was closed before the message was confirmed'))
      }
    },
  }
}
