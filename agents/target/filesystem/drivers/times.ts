/** Times as callers give them, made such that all parts of Howdah can keep them. */

const LAST = 2n ** 63n - 1n

/** Nanoseconds since the epoch, held between the years 1677 and 2262: what fits into 64 bits. */
export function clampedTime(nanoseconds: bigint): bigint {
  if (nanoseconds > LAST) return LAST
  return nanoseconds < -LAST ? -LAST : nanoseconds
}
