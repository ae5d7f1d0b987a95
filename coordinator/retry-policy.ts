/** How often and when a failed step is retried. */
import { backoffMs } from '../messages/backoff.ts'
import type { Session } from './session.ts'

export interface RetryPolicy {
  /** How often a step that fails for a transient reason is attempted before the session fails. */
  readonly attempts: number
  readonly firstDelayMs: number
  readonly maxDelayMs: number
  /** For sessions that were published before. */
  readonly resume: {
    /** Whether a session that lost its mount or its PostgreSQL is resumed automatically. */
    readonly automatic: boolean
    /** Consecutive failures of one step after which the session waits for an operator. */
    readonly attempts: number
  }
}

/** Whether a session that was published before has used up its attempts and waits for an operator. */
export function attemptsExhausted({ failures }: Session, { resume }: RetryPolicy): boolean {
  return !resume.automatic || failures >= resume.attempts
}

/** When the step that failed is retried. */
export function retryTime(
  { failures }: Session,
  policy: RetryPolicy,
  now: number,
  random: () => number,
): string {
  const { firstDelayMs: firstMs, maxDelayMs: maxMs } = policy
  return new Date(now + backoffMs(failures, { firstMs, maxMs, jitter: 'spread' }, random)).toISOString()
}
