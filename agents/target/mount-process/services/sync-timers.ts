/**
 * Syncs changes for which no fsync was called, some time after they were made. No timer runs while there is nothing to
 * sync: a machine may have a thousand sessions.
 */
import type { Logger } from 'pino'

export interface SyncTimersOptions {
  /** Rejects when the write cache cannot be written; it is retried then. */
  readonly syncChanged: () => Promise<void>
  readonly flushFetched: () => Promise<void>
  readonly logger: Logger
}

export interface SyncTimers {
  /** There are changes that are not durable. */
  changed(): void
  /** There are fetched blocks that are not in the index. */
  fetched(): void
  /** Stops the timers; resolves when syncs in progress have ended. */
  stop(): Promise<void>
}

/** How much a crash may lose of changes for which no fsync was called. Milliseconds. */
export const CHANGED_AFTER_MS = 1000
/** Losing fetched blocks only means to fetch them again. Milliseconds. */
const FETCHED_AFTER_MS = 10_000

export function createSyncTimers({ syncChanged, flushFetched, logger }: SyncTimersOptions): SyncTimers {
  let stopped = false

  function once(afterMs: number, work: () => Promise<void>) {
    let timer: NodeJS.Timeout | undefined
    let running: Promise<void> | undefined
    let again = false

    async function run(): Promise<void> {
      try {
        await work()
      } catch (err) {
        logger.error({ err }, 'the write cache could not be synced')
        again = true
      }
      running = undefined
      if (again) start()
    }
    function start(): void {
      if (stopped || timer !== undefined) return
      again = running !== undefined
      if (again) return
      timer = setTimeout(() => {
        timer = undefined
        running = run()
      }, afterMs)
      timer.unref()
    }
    return {
      start,
      async stop() {
        clearTimeout(timer)
        await running
      },
    }
  }

  const changed = once(CHANGED_AFTER_MS, syncChanged)
  const fetched = once(FETCHED_AFTER_MS, flushFetched)
  return {
    changed: changed.start,
    fetched: fetched.start,
    async stop() {
      stopped = true
      await Promise.all([changed.stop(), fetched.stop()])
    },
  }
}
