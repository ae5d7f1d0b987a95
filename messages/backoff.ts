/** How long to wait before another attempt: exponential backoff with a cap and jitter. Pure. */

export interface Backoff {
  /** The delay after the first failure, before jitter. */
  readonly firstMs: number
  /** The delay stops growing here, before jitter. */
  readonly maxMs: number
  /**
   * `shorten` (default) takes away up to a half, so that `maxMs` is never exceeded; `spread` adds or takes away up to a
   * quarter, so that the mean stays the configured delay.
   */
  readonly jitter?: 'shorten' | 'spread'
}

/**
 * Milliseconds to wait after failed attempt number `attempt`, from 1: doubled each time up to the cap. The jitter keeps
 * many clients of one broken server from returning at the same moment.
 */
export function backoffMs(
  attempt: number,
  { firstMs, maxMs, jitter }: Backoff,
  random = Math.random,
): number {
  const delay = Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 30))
  const factor = jitter === 'spread' ? 0.75 + random() / 2 : 1 - random() / 2
  return Math.round(delay * factor)
}
