/**
 * When what nobody asked to be synced becomes durable: a while after there is something. An engine that has nothing to
 * sync is left alone, and so is the processor: a machine may have a thousand sessions.
 */
import type { Logger } from 'pino'

export interface SyncTimersOptions {
  /** Rejects when the write cache cannot be written; it is tried again then. */
  readonly syncChanged: () => Promise<void>
  readonly flushFetched: () => Promise<void>
  readonly logger: Logger
}

export interface SyncTimers {
  /** Something was changed that is not durable. */
  changed(): void
  /** Something was fetched that a restart would not find. */
  fetched(): void
  /** No timer starts any more; resolves when what was begun is done. */
  stop(): Promise<void>
}

/** What a crash may cost of what was not synced by those who wrote it. Milliseconds. */
export const CHANGED_AFTER_MS = 1000
/** Losing what was fetched only means to fetch it again. Milliseconds. */
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
