/** How often and when a failed step is tried again. */
import { backoffMs } from '../messages/backoff.ts'
import type { Session } from './session.ts'

export interface RetryPolicy {
  /** How often a step that failed for a passing reason is tried before the session fails. */
  readonly attempts: number
  readonly firstDelayMs: number
  readonly maxDelayMs: number
  /** Sessions that were published before. */
  readonly resume: {
    /** Whether a session that lost a part goes on by itself. */
    readonly automatic: boolean
    /** Failures in a row of one step after which it waits for somebody. */
    readonly attempts: number
  }
}

/** Whether a session that was published before waits for somebody now. */
export function exhausted({ failures }: Session, { resume }: RetryPolicy): boolean {
  return !resume.automatic || failures >= resume.attempts
}

/** When the step that failed is tried again. */
export function retryTime(
  { failures }: Session,
  policy: RetryPolicy,
  now: number,
  random: () => number,
): string {
  const { firstDelayMs: firstMs, maxDelayMs: maxMs } = policy
  return new Date(now + backoffMs(failures, { firstMs, maxMs, jitter: 'spread' }, random)).toISOString()
}
