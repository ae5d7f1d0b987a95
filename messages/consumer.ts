/**
 * Consumes one queue: validates each delivery, passes it to the handler, and settles it by the outcome.
 *
 * A delivery that breaks the contract is refused, with a reply if it asks for one, and dead-lettered. One whose handler
 * fails is tried a bounded number of times with backoff, then refused and dead-lettered, too. While what handlers need is
 * away (`Unavailable`), deliveries are held and count as not yet tried; no more than the prefetch arrive then. No content
 * of a message stops the consumer.
 */
import type { ConfirmChannel, ConsumeMessage } from 'amqplib'
import type { Logger } from 'pino'
import { type Backoff, backoffMs } from './backoff.ts'
import type { Consumer, Delivery, Outcome } from './bus.ts'
import { type BusObserver, type DeliveryOutcome, type ReceivedDelivery, UNOBSERVED } from './bus-observer.ts'
import type { Channels } from './channels.ts'
import { decodeDelivery, type Expected } from './envelope.ts'
import { type ErrorBody, errorBody } from './errors.ts'
import { createOutageGate } from './outage-gate.ts'
import { createRecoveringChannel } from './recovering-channel.ts'
import { isUnavailable } from './unavailable.ts'
import { atMost, pause } from './wait.ts'

export interface Redelivery extends Backoff {
  /** Deliveries of one message before it is dead-lettered; fewer than the queue's own limit. */
  readonly tries: number
}

export interface ConsumerOptions {
  readonly connection: Channels
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  readonly queue: string
  /** Of the consumer, in the RabbitMQ console. */
  readonly tag: string
  readonly prefetch: number
  readonly redelivery: Redelivery
  readonly expected: Expected
  /** How long deliveries are held while they cannot be handled, before they are handed back. Default: 20 minutes. */
  readonly holdMs?: number
  /** Default: nobody counts. */
  readonly observer?: Pick<BusObserver, 'received'>
  readonly logger: Logger
  declare(channel: ConfirmChannel): Promise<void>
  handle(delivery: Delivery): Promise<Outcome>
  /** Replies to a message that is refused. */
  refuse(message: ConsumeMessage, error: ErrorBody): Promise<void>
  /** Resolves when the copy is confirmed. */
  deadLetter(message: ConsumeMessage, queue: string, reason: string): Promise<void>
}

/** How long `close` waits for handlers. RabbitMQ delivers again what they have not settled by then. */
const CLOSE_DEADLINE_MS = 10_000
const GONE_DEADLINE_MS = 2_000
/** How long to wait for RabbitMQ to confirm a cancel, which it never does while it does not read from the connection. */
const CANCEL_MS = 2_000
/** RabbitMQ closes a channel that keeps a delivery for 30 minutes. */
const HOLD_MS = 20 * 60_000
/** Deliveries after which a message is not handled again: each ended with the process or its connection. */
const MAX_DELIVERIES = 30

export async function startConsumer(options: ConsumerOptions): Promise<Consumer> {
  const {
    connection,
    ended,
    queue,
    tag,
    prefetch,
    redelivery,
    holdMs = HOLD_MS,
    observer = UNOBSERVED,
    logger,
  } = options
  const running = new Set<Promise<void>>()
  const closing = new AbortController()
  const gate = createOutageGate(redelivery, logger.child({ queue }))
  let isClosing = false

  const recoveringChannel = createRecoveringChannel({
    connection,
    ended,
    purpose: `consume ${queue}`,
    logger,
    async setUp(channel) {
      const gone = new AbortController()
      channel.once('close', () => gone.abort())
      await options.declare(channel)
      // A channel that is opened again while handlers finish.
      if (isClosing) return
      await channel.prefetch(prefetch)
      const deliver = (message: ConsumeMessage | null): void => {
        if (message === null) {
          logger.warn({ queue }, 'RabbitMQ cancelled the consumer, starting it again')
          recoveringChannel.reopen()
          return
        }
        const handling = settle(channel, message, gone.signal).finally(() => running.delete(handling))
        running.add(handling)
      }
      await channel.consume(queue, deliver, { consumerTag: tag })
    },
  })

  /** Never rejects. What failed is rejected and what is only handed back is nacked: since 4.3 RabbitMQ counts the first. */
  async function settle(channel: ConfirmChannel, message: ConsumeMessage, gone: AbortSignal): Promise<void> {
    const settled = observer.received(received(message, options))
    const held = () => AbortSignal.any([closing.signal, gone, AbortSignal.timeout(holdMs)])
    try {
      const done = await gate.run(message.fields.deliveryTag, held, () => work(message, options))
      onChannel(() => (done ? channel.ack(message) : channel.nack(message, false, true)))
      settled(done ?? 'redelivered')
    } catch (error) {
      settled('redelivered')
      logger.error({ err: error, ...about(message, queue) }, 'a message could not be handled')
      await pause(backoffMs(failedDeliveries(message) + 1, redelivery), closing.signal)
      onChannel(() => channel.reject(message, true))
    }
  }

  /** RabbitMQ delivers again what is settled on a channel that is gone. */
  function onChannel(act: () => void): void {
    try {
      act()
    } catch {
      logger.debug({ queue }, 'the channel of a delivery is gone')
    }
  }

  try {
    await recoveringChannel.opened
  } catch (error) {
    await recoveringChannel.close()
    throw error
  }
  return {
    get isConsuming() {
      return recoveringChannel.current !== undefined
    },
    async close() {
      isClosing = true
      const cancelled = recoveringChannel.current?.cancel(tag).catch(() => {})
      if (cancelled) await atMost(CANCEL_MS, cancelled)
      closing.abort()
      // Without a channel RabbitMQ delivers again whatever they do.
      await atMost(recoveringChannel.current ? CLOSE_DEADLINE_MS : GONE_DEADLINE_MS, Promise.all(running))
      await recoveringChannel.close()
    },
  }
}

/** Resolves when the delivery can be acknowledged. */
async function work(
  message: ConsumeMessage,
  options: ConsumerOptions,
): Promise<Exclude<DeliveryOutcome, 'redelivered'>> {
  const outcome = await decide(message, options)
  if (outcome === 'ack') return 'handled'
  await options.deadLetter(message, options.queue, outcome.deadLetter)
  return 'dead-lettered'
}

/** What identifies a message in the log. Bounded: it comes from others. */
function about({ properties }: ConsumeMessage, queue: string): object {
  const short = (value: unknown) => (value === undefined ? undefined : String(value).slice(0, 128))
  return { queue, type: short(properties.type), messageId: short(properties.messageId) }
}

function received({ properties }: ConsumeMessage, { queue, expected }: ConsumerOptions): ReceivedDelivery {
  const { type, timestamp } = properties as { type: unknown; timestamp: unknown }
  return {
    queue,
    type: typeof type === 'string' && Object.hasOwn(expected.types, type) ? type : undefined,
    sentAt: typeof timestamp === 'number' ? timestamp : undefined,
  }
}

/**
 * What becomes of a delivery: the outcome of its handler, or a dead letter where it breaks the contract or was tried for
 * the last time.
 * @throws when it is to be tried again: what its handler threw, or `Unavailable`
 */
async function decide(message: ConsumeMessage, options: ConsumerOptions): Promise<Outcome> {
  const { queue, redelivery, expected, logger } = options
  const { delivery, refused, ignored } = decodeDelivery(message, expected)
  if (ignored !== undefined) {
    logger.debug({ queue, type: ignored }, 'ignored a message of a type that a newer release has')
    return 'ack'
  }
  if (refused) {
    logger.warn({ ...about(message, queue), error: refused }, 'refused a message')
    await refuse(message, refused, options)
    return { deadLetter: `${refused.code}: ${refused.message}` }
  }
  const deliveries = failedDeliveries(message)
  if (deliveries >= MAX_DELIVERIES) {
    return giveUp(message, `it was delivered ${deliveries} times without an outcome`, options)
  }
  try {
    return await options.handle(delivery)
  } catch (error) {
    if (isUnavailable(error) || deliveries + 1 < redelivery.tries) throw error
    logger.error(
      { err: error, ...about(message, queue) },
      'the handler of a message failed for the last time',
    )
    const { code, message: text } = errorBody(error)
    return giveUp(
      message,
      `its handler failed ${redelivery.tries} times; ${code}: ${text.slice(0, 500)}`,
      options,
    )
  }
}

/** Refuses a message that could not be handled, as an internal error. */
async function giveUp(message: ConsumeMessage, reason: string, options: ConsumerOptions): Promise<Outcome> {
  const type = String(message.properties.type)
  await refuse(message, { code: 'internal', message: `${type} could not be handled: ${reason}` }, options)
  return { deadLetter: reason }
}

/** Answers, if an answer can be sent: the dead letter does not depend on it. */
async function refuse(message: ConsumeMessage, error: ErrorBody, options: ConsumerOptions): Promise<void> {
  try {
    await options.refuse(message, error)
  } catch (unsent) {
    if (isUnavailable(unsent)) throw unsent
    options.logger.warn(
      { err: unsent, ...about(message, options.queue) },
      'the answer to a message could not be sent',
    )
  }
}

/**
 * Deliveries of this message that failed, as its quorum queue counts them; the first delivery lacks the header. Releases
 * before 4.3 count those that were handed back, too.
 */
function failedDeliveries({ properties }: ConsumeMessage): number {
  const count: unknown = properties.headers?.['x-delivery-count']
  return typeof count === 'number' && count > 0 ? count : 0
}
