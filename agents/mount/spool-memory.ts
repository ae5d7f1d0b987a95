/** A bounded cache of decoded contents in memory: least recently used goes first, one decode per key at a time. */

export interface MemoryCache {
  /** The contents, from the cache or by `make`. A failure is not kept. */
  get(key: string, make: () => Promise<Buffer>): Promise<Buffer>
}

export function createMemoryCache(maxBytes: number): MemoryCache {
  const kept = new Map<string, Buffer>()
  const making = new Map<string, Promise<Buffer>>()
  let bytes = 0

  function keep(key: string, contents: Buffer): void {
    kept.set(key, contents)
    bytes += contents.length
    for (const [oldest, old] of kept) {
      if (bytes <= maxBytes || oldest === key) return
      kept.delete(oldest)
      bytes -= old.length
    }
  }

  return {
    async get(key, make) {
      const found = kept.get(key)
      if (found !== undefined) {
        kept.delete(key)
        kept.set(key, found)
        return found
      }
      let made = making.get(key)
      if (made === undefined) {
        made = make().then((contents) => {
          keep(key, contents)
          return contents
        })
        making.set(key, made)
        const forget = () => making.delete(key)
        made.then(forget, forget)
      }
      return made
    },
  }
}
