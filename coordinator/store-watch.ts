/**
 * Watches whether the store answers. A coordinator whose store is out of its reach, although its broker is not, must make
 * room for another one that may reach it. Owns the timer of its questions, decides nothing.
 */
import { once } from 'node:events'
import type { Logger } from 'pino'
import type { Store } from './store/store.ts'

export interface StoreWatch {
  /** Resolves while the store answers, or else when it answers again, or when the signal aborts. */
  reachable(signal: AbortSignal): Promise<void>
  close(): void
}

export interface StoreWatchOptions {
  readonly store: Pick<Store, 'ping'>
  /** Called once each time that the store has not answered for too long. */
  readonly onLost: () => void
  readonly logger: Logger
  /** Milliseconds from one question to the next. */
  readonly everyMs?: number
  /** Milliseconds without an answer after which the store is out of reach. */
  readonly lostAfterMs?: number
}

export function createStoreWatch(options: StoreWatchOptions): StoreWatch {
  const { store, onLost, logger, everyMs = 2_000, lostAfterMs = 10_000 } = options
  let answeredAt = Date.now()
  let isAsking = false
  /** Aborted when the store answers again; undefined while it is in reach. */
  let away: AbortController | undefined

  async function ask(): Promise<void> {
    isAsking = true
    try {
      await store.ping()
      answeredAt = Date.now()
      if (away) logger.info('the store answers again')
      away?.abort()
      away = undefined
    } catch (error) {
      logger.debug({ err: error }, 'the store does not answer')
    } finally {
      isAsking = false
    }
  }

  const timer = setInterval(() => {
    if (!isAsking) void ask()
    if (away || Date.now() - answeredAt < lostAfterMs) return
    away = new AbortController()
    logger.error(`the store has not answered for ${lostAfterMs / 1000} s`)
    onLost()
  }, everyMs)

  return {
    async reachable(signal) {
      while (away && !signal.aborted) {
        const either = AbortSignal.any([away.signal, signal])
        if (!either.aborted) await once(either, 'abort')
      }
    },
    close() {
      clearInterval(timer)
    },
  }
}
