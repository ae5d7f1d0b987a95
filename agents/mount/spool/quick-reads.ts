/**
 * Whether a small read may be done at once, on the event loop. What the page cache holds is read in a few
 * microseconds, many times less than the way to the thread pool and back; what has to come from the disk must not stop
 * everything else. One tells from the last ones which it is.
 */

/** Larger ones take so long that the way to the thread pool does not matter. Bytes. */
const MAX_BYTES = 128 * 1024

/** A read that took longer came from the disk, ms. */
const SLOW_MS = 0.1

/** After a slow read none is done at once for this many times as long: so little of the loop's time may a disk take. */
const REST = 100
/** But not for longer, ms: a busy machine makes a read slow as well. */
const MAX_REST_MS = 100

export interface QuickReads {
  /** Runs `work` now if the read may be done at once, and gives what it gives. */
  attempt<T>(bytes: number, work: () => T): T | undefined
}

/** `now`: milliseconds, with fraction. */
export function createQuickReads(now: () => number = () => performance.now()): QuickReads {
  let restUntil = Number.NEGATIVE_INFINITY
  return {
    attempt(bytes, work) {
      if (bytes > MAX_BYTES) return undefined
      const begin = now()
      if (begin < restUntil) return undefined
      const result = work()
      const end = now()
      if (end - begin > SLOW_MS) restUntil = end + Math.min((end - begin) * REST, MAX_REST_MS)
      return result
    },
  }
}
