/** Waiting and trying again, for every process of Howdah: backoff with jitter and a cap, waits that can be called off. */
import { setTimeout as delay } from 'node:timers/promises'

export interface Backoff {
  readonly firstMs: number
  readonly maxMs: number
}

/**
 * How long to wait after the given failed attempt (from 1): doubled each time up to `maxMs`, then shortened at random
 * by up to a half, so that many clients of one broken server do not come back at the same moment.
 */
export function backoffMs(attempt: number, { firstMs, maxMs }: Backoff, random = Math.random): number {
  const full = Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 30))
  return Math.round(full * (1 - random() / 2))
}

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
