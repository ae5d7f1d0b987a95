/** Random numbers that a seed repeats, where fast-check draws none. */
export interface Random {
  /** A whole number from 0 to `below` - 1. */
  below(below: number): number
  /** True in one of `count` cases. */
  oneIn(count: number): boolean
}

/** Mulberry32, by Tommy Ettinger: 32 bits of state, public domain. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const below = (limit: number): number => Math.floor(next() * limit)
  return { below, oneIn: (count) => below(count) === 0 }
}
