/** Many small things of a file system at once, but not all of them. */

/** Hides the round trips of a network file system; a local one is done with them long before. */
const CONCURRENCY = 64

/** `work` on each of `items`, in their order. The first failure is the whole's. */
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
