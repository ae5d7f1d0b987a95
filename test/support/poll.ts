/** Owns waiting for a condition in tests. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface PollOptions {
  readonly deadlineMs: number
  /** Between two looks. Default 50 ms. */
  readonly everyMs?: number
  /** What is thrown when the deadline has passed: an error, or its message. */
  readonly failure: () => string | Error
}

/**
 * What `look` returns as soon as that is not undefined; it is called once at least.
 * @throws the errors of `look`; `failure` at the deadline
 */
export async function poll<T>(
  look: () => Promise<T | undefined> | T | undefined,
  { deadlineMs, everyMs = 50, failure }: PollOptions,
): Promise<T> {
  const deadline = Date.now() + deadlineMs
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (Date.now() > deadline) {
      const reason = failure()
      throw reason instanceof Error ? reason : new Error(reason)
    }
    await sleep(everyMs)
  }
}
