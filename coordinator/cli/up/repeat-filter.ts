/** Suppresses repeated messages: the same text passes once per interval. */

/** After so many different texts all are forgotten, which bounds the memory; a repetition may then pass early. */
const MAX_REMEMBERED = 1000

/** Returns a function that says whether a text is to be shown. `now`: the clock, in milliseconds. */
export function createRepeatFilter(
  intervalMs: number,
  now: () => number = Date.now,
): (text: string) => boolean {
  const shownAt = new Map<string, number>()
  return (text) => {
    const before = shownAt.get(text)
    if (before !== undefined && now() - before < intervalMs) return false
    if (shownAt.size >= MAX_REMEMBERED) shownAt.clear()
    shownAt.set(text, now())
    return true
  }
}
