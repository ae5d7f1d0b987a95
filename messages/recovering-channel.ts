/**
 * A channel that is opened and set up again after every reconnect, and after RabbitMQ closed only the channel.
 *
 * Owns one channel. The caller's `setUp` declares and consumes on it, and must be safe to repeat.
 */
import type { ConfirmChannel } from 'amqplib'
import type { Logger } from 'pino'
import { amqpFailure } from './amqp-failure.ts'
import { backoffMs } from './backoff.ts'
import type { Channels } from './channels.ts'
import { HowdahError } from './errors.ts'
import { createOutageLog } from './outage-log.ts'
import { atMost, pause } from './wait.ts'

const REOPEN = { firstMs: 100, maxMs: 5_000 }
/** A channel that is closed sooner than this after it was opened is replaced after a delay, which grows each time. */
const SHORT_LIFE_MS = 1_000
/** How long to wait for RabbitMQ to confirm a close, which it never does while it does not read from the connection. */
const CLOSE_MS = 2_000

export interface RecoveringChannelOptions {
  readonly connection: Channels
  /** Aborted when the bus is closed. */
  readonly ended: AbortSignal
  /** Completes "RabbitMQ refused to …". */
  readonly purpose: string
  readonly logger: Logger
  /** Declares and consumes; the channel counts as open when it resolves. */
  setUp(channel: ConfirmChannel): Promise<void>
  onOpen?(channel: ConfirmChannel): void
}

export interface RecoveringChannel {
  /** The channel while it is usable. */
  readonly current: ConfirmChannel | undefined
  /** Why the channel is not usable, if that is known. */
  readonly failure: HowdahError | undefined
  /** Settles with the first set-up: rejects on a wrong configuration, waits while the broker is unavailable. */
  readonly opened: Promise<void>
  /** Drops the channel and opens another one. */
  reopen(): void
  close(): Promise<void>
}

export function createRecoveringChannel(options: RecoveringChannelOptions): RecoveringChannel {
  const { connection, ended, purpose, logger, setUp, onOpen } = options
  const closing = new AbortController()
  const ending = (): void => closing.abort()
  if (ended.aborted) ending()
  ended.addEventListener('abort', ending, { once: true })
  const first = Promise.withResolvers<void>()
  first.promise.catch(() => {})
  let current: ConfirmChannel | undefined
  let failure: HowdahError | undefined
  let opening: Promise<void> | undefined
  let shortLives = 0
  const outage = createOutageLog({ logger, failing: `cannot ${purpose}`, again: `can ${purpose} again` })

  const begin = () => {
    if (opening || current) return
    opening = open().finally(() => {
      opening = undefined
      // The channel may have gone between its set-up and here.
      if (!current && !closing.signal.aborted) begin()
    })
  }

  async function open(): Promise<void> {
    if (shortLives > 0) await pause(backoffMs(shortLives, REOPEN), closing.signal)
    for (let attempt = 1; !closing.signal.aborted; attempt++) {
      try {
        await openOnce()
        failure = undefined
        outage.works()
        first.resolve()
        return
      } catch (error) {
        failure = amqpFailure(failure?.code === 'configuration' ? failure : error, purpose)
        if (closing.signal.aborted) break
        if (failure.code === 'configuration') first.reject(failure)
        outage.failed(failure)
        await pause(backoffMs(attempt, REOPEN), closing.signal)
      }
    }
    first.reject(new HowdahError('broker_unavailable', 'this connection to RabbitMQ was closed'))
  }

  async function openOnce(): Promise<void> {
    failure = undefined
    const channel = await connection.openChannel()
    let alive = true
    let openedAt = 0
    channel.on('error', (error) => {
      failure = amqpFailure(error, purpose)
    })
    channel.once('close', () => {
      alive = false
      if (current !== channel) return
      current = undefined
      shortLives = Date.now() - openedAt < SHORT_LIFE_MS ? shortLives + 1 : 0
      if (failure) logger.warn({ err: failure }, 'RabbitMQ closed a channel')
      begin()
    })
    try {
      await setUp(channel)
    } catch (error) {
      if (alive) await channel.close().catch(() => {})
      throw error
    }
    if (!alive) throw failure ?? new Error('the channel was closed while it was set up')
    openedAt = Date.now()
    current = channel
    onOpen?.(channel)
  }

  begin()
  return {
    get current() {
      return current
    },
    get failure() {
      return failure
    },
    opened: first.promise,
    reopen() {
      current?.close().catch(() => {}) // 'close' begins again
    },
    async close() {
      closing.abort()
      ended.removeEventListener('abort', ending)
      const channel = current
      current = undefined
      if (channel)
        await atMost(
          CLOSE_MS,
          channel.close().catch(() => {}),
        )
    },
  }
}
