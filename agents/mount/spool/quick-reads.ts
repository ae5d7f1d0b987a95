/**
 * Whether a small read may be done synchronously, on the event loop. Bytes in the page cache are read in a few
 * microseconds, many times less than a round trip to the thread pool; a read from disk must not block the loop. Which
 * one is likely is judged by how long the last reads took.
 */

/** Larger reads take so long that the round trip to the thread pool does not matter. Bytes. */
const MAX_BYTES = 128 * 1024

/** A read that took longer came from the disk, ms. */
const SLOW_MS = 0.1

/**
 * After a slow read, none is done synchronously for this many times its duration: that limits the share of the loop's
 * time that a disk can take.
 */
const REST = 100
/** The longest such pause, ms: a busy machine makes reads slow as well. */
const MAX_REST_MS = 100

export interface QuickReads {
  /** Runs `work` and returns its result if the read may be done synchronously; otherwise undefined. */
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
