/**
 * A bounded cache of values that are expensive to compute: evicts the least recently used one, and computes each once
 * at a time.
 */

export interface BoundedCache<Key, Value> {
  /** The value, from the cache or by `make`. Failures are not cached. */
  get(key: Key, make: () => Promise<Value>): Promise<Value>
}

/** @param max sum of the weights of the values that are kept; a single heavier one is kept until the next is added */
export function createBoundedCache<Key, Value>(
  max: number,
  weigh: (value: Value) => number,
): BoundedCache<Key, Value> {
  const kept = new Map<Key, Value>()
  const making = new Map<Key, Promise<Value>>()
  let weight = 0

  function keep(key: Key, value: Value): void {
    kept.set(key, value)
    weight += weigh(value)
    for (const [oldest, old] of kept) {
      if (weight <= max || oldest === key) return
      kept.delete(oldest)
      weight -= weigh(old)
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
        made = make().then((value) => {
          keep(key, value)
          return value
        })
        making.set(key, made)
        const forget = () => making.delete(key)
        made.then(forget, forget)
      }
      return made
    },
  }
}
