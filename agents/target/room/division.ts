/** How the space for all write caches of a target is divided: pure functions of what each session uses. */

/** One write cache. */
export interface CacheUse {
  /** Bytes of changes and WAL. */
  readonly usedBytes: number
  /** The smallest share that a session can work with. */
  readonly neededBytes: number
  /** Bytes that it may come to use unless it is told otherwise, at least `usedBytes`; infinite while that is unknown. */
  readonly committedBytes: number
  /** A session uses it: it has a part of the free space. */
  readonly grows: boolean
}

/**
 * What each cache is to have: what it uses and an equal part of what nobody uses, or what it needs. What is needed may be
 * more than there is, so the sum may exceed the limit.
 */
export function divide<Cache extends CacheUse>(limit: number, caches: readonly Cache[]): Map<Cache, number> {
  const growing = caches.filter(({ grows }) => grows).length
  const part = Math.floor(unusedBytes(limit, caches) / Math.max(1, growing))
  return new Map(
    caches.map((cache) => [
      cache,
      cache.grows ? Math.max(cache.neededBytes, cache.usedBytes + part) : cache.usedBytes,
    ]),
  )
}

export function unusedBytes(limit: number, caches: readonly CacheUse[]): number {
  return Math.max(0, limit - caches.reduce((sum, { usedBytes }) => sum + usedBytes, 0))
}

/** Bytes that no cache may come to use. */
export function uncommitted(limit: number, caches: readonly CacheUse[]): number {
  return Math.max(0, limit - caches.reduce((sum, { committedBytes }) => sum + committedBytes, 0))
}
