/** Waits that end early, by a signal or at a deadline. */
import { setTimeout as delay } from 'node:timers/promises'
import { HowdahError } from './errors.ts'

/** Waits; resolves early, without an error, when the signal aborts. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal ? { signal } : {}).catch((error: unknown) => {
    if (!signal?.aborted) throw error
  })
}

/** Waits for the work, but no longer than this. What it rejects with in that time is thrown. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController()
  try {
    await Promise.race([work, pause(ms, over.signal)])
  } finally {
    over.abort()
  }
}

/** What an aborted wait throws: the reason of the signal. */
export function abortError(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason
  return reason instanceof Error ? reason : new HowdahError('timeout', 'the wait was called off')
}
