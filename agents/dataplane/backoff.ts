/** How long to wait before trying again. */

/** 50 ms, doubled per failed attempt up to 5 s; of that a random half to whole, so that clients spread out. */
export function backoffMs(attempt: number): number {
  const most = Math.min(5000, 50 * 2 ** Math.min(attempt, 10))
  return most * (0.5 + Math.random() / 2)
}
