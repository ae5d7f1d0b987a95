/** One timer per session whose failed step is tried again later. Owns the timers, not the decision to retry. */
import type { Clock } from '../clock.ts'
import type { Session } from '../session.ts'

export interface RetryTimers {
  /** Sets the timer to the session's `retryAt`, in place of an earlier one. Does nothing for a session without. */
  schedule(session: Session): void
  isScheduled(id: string): boolean
  readonly count: number
  /** Clears all timers and sets no more. */
  close(): void
}

export function createRetryTimers(options: {
  readonly now: Clock
  readonly onDue: (id: string) => void
}): RetryTimers {
  const { now, onDue } = options
  const timers = new Map<string, NodeJS.Timeout>()
  let closed = false
  return {
    schedule({ id, retryAt }) {
      if (retryAt === undefined || closed) return
      clearTimeout(timers.get(id))
      const expire = (): void => {
        timers.delete(id)
        onDue(id)
      }
      timers.set(id, setTimeout(expire, Math.max(0, Date.parse(retryAt) - now())))
    },
    isScheduled: (id) => timers.has(id),
    get count() {
      return timers.size
    },
    close() {
      closed = true
      for (const timer of timers.values()) clearTimeout(timer)
    },
  }
}
