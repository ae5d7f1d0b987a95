/**
 * Works on the queue of dead letters: looks at it, publishes letters again to where they came from, and removes them. Owns
 * the channels and the lock for that. What is looked at is held for the moment of the look, and goes back to its place.
 *
 * A letter is removed after RabbitMQ has confirmed its publication: a process that dies in between leaves it there, and
 * what is then sent again has the same message id.
 */
import type { ConfirmChannel, ConsumeMessage } from 'amqplib'
import { amqpFailure, RESOURCE_LOCKED } from './amqp-failure.ts'
import type { Channels } from './channels.ts'
import { type DeadLetter, deadLetter, republication } from './dead-letter-view.ts'
import { type ErrorBody, errorBody, HowdahError } from './errors.ts'
import type { Publishing } from './publishing.ts'
import { DEAD_LETTERS, DEAD_LETTERS_LOCK } from './topology.ts'
import { abortError, pause } from './wait.ts'

export interface DeadLetters {
  /** Oldest first. */
  list(signal: AbortSignal): Promise<Omit<DeadLetter, 'content'>[]>
  /** @throws HowdahError `unknown_dead_letter` */
  find(id: string, signal: AbortSignal): Promise<DeadLetter>
  /** Publishes it again, and removes it then. @throws HowdahError `unknown_dead_letter`, as `republication`, or why it was not taken */
  retry(id: string, signal: AbortSignal): Promise<DeadLetter>
  /** All that are there now. What cannot be sent again stays. */
  retryAll(signal: AbortSignal): Promise<Retried>
  /** @throws HowdahError `unknown_dead_letter` */
  drop(id: string, signal: AbortSignal): Promise<DeadLetter>
  /** All that are there now. @returns how many */
  dropAll(signal: AbortSignal): Promise<number>
}

export interface Retried {
  readonly retried: number
  readonly failed: readonly { readonly id: string; readonly error: ErrorBody }[]
}

export interface DeadLettersOptions {
  readonly connection: Channels
  readonly publishing: Pick<Publishing, 'publish'>
  /** Of the consumer. */
  readonly tag: string
}

/** What becomes of a letter that is looked at. */
type Verdict = 'keep' | 'remove' | 'remove and stop'
type Visit = (letter: DeadLetter) => Promise<Verdict> | Verdict

/** Letters that are in memory at once. */
const WINDOW = 100
/** The queue says how many it has; fewer came when others were removed meanwhile. */
const QUIET_MS = 2_000
const LOCK_TRIES = 20
const LOCK_RETRY_MS = 250

export function createDeadLetters({ connection, publishing, tag }: DeadLettersOptions): DeadLetters {
  /** Every letter that is there now, oldest first. */
  async function walk(signal: AbortSignal, visit: Visit): Promise<void> {
    const lock = await takeLock(connection, signal)
    const channel = await connection.openChannel()
    const lost = Promise.withResolvers<never>()
    lost.promise.catch(() => {})
    channel.once('error', (error) => lost.reject(error))
    channel.once('close', () => lost.reject(new Error('the channel was closed')))
    try {
      await Promise.race([look(channel, signal, visit), lost.promise])
    } catch (error) {
      throw amqpFailure(error, `read the queue ${DEAD_LETTERS.name}`)
    } finally {
      // What was not removed is requeued, in its place.
      await channel.close().catch(() => {})
      await lock.release()
    }
  }

  async function look(channel: ConfirmChannel, signal: AbortSignal, visit: Visit): Promise<void> {
    let { messageCount: left } = await channel.checkQueue(DEAD_LETTERS.name)
    let window = 0
    let isOver = false
    while (left > 0 && !isOver) {
      window += 1
      const messages = await receive(channel, window, Math.min(WINDOW, left), signal)
      if (messages.length === 0) break
      left -= messages.length
      for (const message of messages) {
        if (signal.aborted) throw abortError(signal)
        const verdict = await visit(deadLetter(message))
        if (verdict !== 'keep') channel.ack(message)
        isOver = verdict === 'remove and stop'
        if (isOver) break
      }
    }
    await settle(channel, window + 1)
  }

  /**
   * Waits until what was acknowledged is removed. A channel holds acknowledgements back while the quorum queue has many
   * to work on, and forgets those when it is closed; a consumer comes and goes by the log of the queue, behind them.
   */
  async function settle(channel: ConfirmChannel, window: number): Promise<void> {
    for (const round of [window, window + 1]) {
      await channel.prefetch(1)
      const { consumerTag } = await channel.consume(DEAD_LETTERS.name, () => {}, {
        consumerTag: `${tag} ${round}`,
      })
      await channel.cancel(consumerTag)
    }
  }

  /**
   * The next ones, as many as that; fewer when no more come. To a quorum queue a consumer with the tag of an earlier one
   * on the channel is the same, with its prefetch used up by what that one holds: each window has a consumer of its own.
   */
  async function receive(
    channel: ConfirmChannel,
    window: number,
    count: number,
    signal: AbortSignal,
  ): Promise<ConsumeMessage[]> {
    const messages: ConsumeMessage[] = []
    const complete = new AbortController()
    let quiet = Date.now()
    await channel.prefetch(count)
    const deliver = (message: ConsumeMessage | null): void => {
      if (message) messages.push(message)
      quiet = Date.now()
      if (!message || messages.length === count) complete.abort()
    }
    const { consumerTag } = await channel.consume(DEAD_LETTERS.name, deliver, {
      consumerTag: `${tag} ${window}`,
    })
    while (!complete.signal.aborted && !signal.aborted && Date.now() - quiet < QUIET_MS) {
      await pause(QUIET_MS - (Date.now() - quiet), AbortSignal.any([complete.signal, signal]))
    }
    await channel.cancel(consumerTag)
    return messages
  }

  /** Acts on one letter. @throws HowdahError `unknown_dead_letter` */
  async function one(id: string, signal: AbortSignal, act: Visit): Promise<DeadLetter> {
    let found: DeadLetter | undefined
    await walk(signal, async (letter): Promise<Verdict> => {
      if (found || letter.id !== id) return 'keep'
      found = letter
      return act(letter)
    })
    if (!found)
      throw new HowdahError(
        'unknown_dead_letter',
        `there is no dead letter ${id}; "howdah dead-letters list" shows those there are`,
      )
    return found
  }

  return {
    async list(signal) {
      const letters: Omit<DeadLetter, 'content'>[] = []
      await walk(signal, ({ content: _, ...letter }) => {
        letters.push(letter)
        return 'keep'
      })
      return letters
    },
    find: (id, signal) => one(id, signal, () => 'keep'),
    retry: (id, signal) =>
      one(id, signal, async (letter): Promise<Verdict> => {
        await publishing.publish({ ...republication(letter), signal })
        return 'remove and stop'
      }),
    async retryAll(signal) {
      let retried = 0
      const failed: { id: string; error: ErrorBody }[] = []
      await walk(signal, async (letter): Promise<Verdict> => {
        try {
          await publishing.publish({ ...republication(letter), signal })
          retried += 1
          return 'remove'
        } catch (error) {
          if (signal.aborted) throw abortError(signal)
          failed.push({ id: letter.id, error: errorBody(error) })
          return 'keep'
        }
      })
      return { retried, failed }
    },
    drop: (id, signal) => one(id, signal, () => 'remove and stop'),
    async dropAll(signal) {
      let dropped = 0
      await walk(signal, () => {
        dropped += 1
        return 'remove'
      })
      return dropped
    },
  }
}

/** @throws HowdahError `operation_failed` while another connection has it */
async function takeLock(connection: Channels, signal: AbortSignal): Promise<{ release(): Promise<void> }> {
  for (let tries = 1; ; tries++) {
    const channel = await connection.openChannel()
    channel.on('error', () => {}) // the call rejects
    try {
      await channel.assertQueue(DEAD_LETTERS_LOCK, { exclusive: true, durable: false })
      return {
        async release() {
          try {
            await channel.deleteQueue(DEAD_LETTERS_LOCK)
            await channel.close()
          } catch {
            // The connection has gone, and the lock with it.
          }
        },
      }
    } catch (error) {
      if ((error as { code?: unknown }).code !== RESOURCE_LOCKED)
        throw amqpFailure(error, `declare the queue ${DEAD_LETTERS_LOCK}`)
      if (tries === LOCK_TRIES) {
        throw new HowdahError(
          'operation_failed',
          'another "howdah dead-letters" works on the dead letters of this broker: wait until it is done',
          { cause: error },
        )
      }
      await pause(LOCK_RETRY_MS, signal)
      if (signal.aborted) throw abortError(signal)
    }
  }
}
