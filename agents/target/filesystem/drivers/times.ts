/** Clamps times from callers to the range that Howdah can store. */

const LAST = 2n ** 63n - 1n

/** Nanoseconds since the epoch, clamped to the years 1677 to 2262: what fits into 64 bits. */
export function clampedTime(nanoseconds: bigint): bigint {
  if (nanoseconds > LAST) return LAST
  return nanoseconds < -LAST ? -LAST : nanoseconds
}
