/** Concurrent file system calls, in a bounded number. */

/** Enough to hide the round trips of a network file system. */
const CONCURRENCY = 64

/** The results of `work` for each of `items`, in their order. Rejects with the first failure. */
export async function mapConcurrently<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  for (let start = 0; start < items.length; start += CONCURRENCY) {
    results.push(...(await Promise.all(items.slice(start, start + CONCURRENCY).map(work))))
  }
  return results
}
