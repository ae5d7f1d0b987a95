/** Waits that end early, by a signal or at a deadline. */
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from './errors.ts'

/** Resolves after the time, or early and without an error when the signal aborts. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal ? { signal } : {}).catch((error: unknown) => {
    if (!signal?.aborted) throw error
  })
}

/** Waits for the work, but not longer than this. Rejects if the work rejects within that time. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const done = new AbortController()
  try {
    await Promise.race([work, pause(ms, done.signal)])
  } finally {
    done.abort()
  }
}

/** The error of an aborted wait: the reason of the signal. */
export function abortError(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason
  return reason instanceof Error ? reason : new HowdahError('timeout', 'the wait was aborted')
}
