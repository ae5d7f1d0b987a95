/**
 * Work that its caller does not wait for. Owns the pending promises, so that a shutdown can wait for them; a failure is
 * logged here and goes no further.
 */
import type { Logger } from 'pino'

export interface BackgroundWork {
  /** `what`: for the log, when the work fails. `session`: the session it belongs to, or `*`. */
  track(what: string, session: string, work: Promise<unknown>): void
  /** Resolves when all work tracked so far has ended; never rejects. */
  settled(): Promise<void>
}

export function createBackgroundWork(logger: Logger): BackgroundWork {
  const running = new Set<Promise<unknown>>()
  return {
    track(what, session, work) {
      const tracked = work.catch((error: unknown) => logger.warn({ err: error, session }, `${what} failed`))
      running.add(tracked)
      void tracked.finally(() => running.delete(tracked))
    },
    async settled() {
      await Promise.allSettled(running)
    },
  }
}
