/**
 * Publishes with confirms on one channel. What was not confirmed is published again after a reconnect with the same
 * message_id; what RabbitMQ returned as unroutable rejects.
 *
 * RabbitMQ closes a channel for a single message that it refuses, without naming it. Everything that was unconfirmed then
 * is suspect and is published one by one on the next channel, so that the one for which that is closed again is known and
 * rejects; everything else is sent afterwards.
 */
import { type ConfirmChannel, IllegalOperationError } from 'amqplib'
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
import { createSuspects } from './suspects.ts'
import { createUnconfirmed, type Pending } from './unconfirmed.ts'

const RESEND_AFTER_NACK_MS = 250
/**
 * A channel on which RabbitMQ refuses for so long is replaced: one that was opened while a queue had no leader can refuse for
 * ever (RabbitMQ 3.10), and another one is accepted.
 */
const REFUSING_MS = 2_000

export interface Publisher {
  /** Resolves when RabbitMQ confirmed. @throws `Unavailable` (`broker_unavailable` | `broker_blocked`), HowdahError `unroutable` | `configuration` | `broker_unavailable` | `timeout` | `message_too_large` | `internal` */
  publish(publication: Publication): Promise<void>
  /** Publishes on a new channel everything that is unconfirmed. */
  attach(channel: ConfirmChannel): void
  /** RabbitMQ closed the connection for something that was published here. Called before its channel closes. */
  onConnectionError(error: ChannelError): void
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
  /** Replaces the channel. */
  readonly reopen: () => void
  /** Why there is no channel. */
  readonly failure: () => HowdahError | undefined
  /** Why RabbitMQ takes no messages at the moment. Nothing is sent then, because it would only fill buffers. */
  readonly blocked: () => string | undefined
  readonly logger: Logger
}

export function createPublisher(options: PublisherOptions): Publisher {
  const { userId, channel, reopen, failure, blocked, logger } = options
  const unconfirmed = createUnconfirmed()
  const suspects = createSuspects({ unconfirmed: unconfirmed.all, channel, blocked, transmit, transmitAll })
  const refused = createRefusedRoutes()
  /** The channel while it is open. */
  let attached: ConfirmChannel | undefined
  /** When RabbitMQ first refused a message on this channel, in ms since the epoch. */
  let refusingSince: number | undefined
  let isClosed = false

  /** Sends a publication on the current channel, if it is not there already and nothing holds it back. */
  function transmit(pending: Pending): void {
    const current = channel()
    if (!current || pending.inFlight || blocked() !== undefined) return
    if (suspects.holdsBack(pending)) return
    pending.inFlight = true
    pending.returned = false
    const mandatory = pending.unroutable !== undefined
    const { exchange, routingKey, content, options } = pending
    try {
      current.publish(exchange, routingKey, content, { ...options, userId, mandatory }, (error: unknown) => {
        if (current !== attached) return // the channel was closed, it is sent again with the next one
        onAnswer(pending, error)
      })
    } catch (error) {
      pending.inFlight = false
      // While the channel is closing the next one sends it; what cannot be encoded never can.
      if (!(error instanceof IllegalOperationError)) pending.settle(unencodable(error, pending))
    }
  }

  /** RabbitMQ confirmed a publication (`basic.ack`), or did not take it (`basic.nack`). */
  function onAnswer(pending: Pending, error: unknown): void {
    pending.inFlight = false
    if (error) {
      pending.refusals += 1
      logger.warn(
        { messageId: pending.options.messageId },
        'RabbitMQ did not take a message, sending it again',
      )
      refusingSince ??= Date.now()
      if (Date.now() - refusingSince > REFUSING_MS) {
        refusingSince = undefined
        reopen()
      }
      setTimeout(() => unconfirmed.all.has(pending) && transmit(pending), RESEND_AFTER_NACK_MS)
    } else if (pending.returned) pending.settle(new HowdahError('unroutable', pending.unroutable ?? ''))
    else pending.settle()
  }

  function transmitAll(): void {
    if (!suspects.isEmpty) suspects.probe()
    else for (const pending of unconfirmed.all) transmit(pending)
  }

  /** Finds the suspects, or rejects the one that RabbitMQ refused. */
  function findRefused(error: ChannelError): void {
    const { probed } = suspects
    if (!probed) {
      for (const pending of unconfirmed.all) if (pending.inFlight) suspects.add(pending)
      return
    }
    const rejected = refusal(error, probed)
    logger.warn({ err: rejected, messageId: probed.options.messageId }, 'RabbitMQ refused a message')
    probed.settle(rejected)
    const extent = extentOf(error)
    if (extent === 'message') return
    refused.add(extent, probed, rejected)
    for (const pending of unconfirmed.all) if (refused.find(pending)) pending.settle(rejected)
  }

  function expire(pending: Pending): void {
    const state = { blocked: blocked(), isOpen: channel() !== undefined, failure: failure() }
    pending.settle(overdue(pending, state))
  }

  return {
    onConnectionError: findRefused,
    resume: transmitAll,
    drain: unconfirmed.drain,

    attach(current) {
      current.on('return', unconfirmed.markReturned)
      current.once('error', (error: ChannelError) => isPublishError(error) && findRefused(error))
      attached = current
      refusingSince = undefined
      // Before amqplib fails all confirms of the channel.
      current.prependOnceListener('close', () => {
        if (attached === current) attached = undefined
      })
      suspects.restart()
      for (const pending of unconfirmed.all) pending.inFlight = false
      transmitAll()
    },

    async publish(publication) {
      if (isClosed) throw closed('this connection to RabbitMQ was closed')
      const earlier = refused.find(publication)
      if (earlier) throw earlier
      const pending = unconfirmed.add(publication, expire)
      if (unconfirmed.all.has(pending)) transmit(pending)
      await pending.settled
    },

    close() {
      isClosed = true
      for (const pending of unconfirmed.all) {
        pending.settle(closed('the connection was closed before the message was confirmed'))
      }
    },
  }
}
