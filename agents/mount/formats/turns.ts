/**
 * Long computations in short slices, between which the event loop serves others: a cluster of 5,000 databases has a million
 * files, and the agent must go on with its heartbeats and with the reads of all sessions meanwhile.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** Items of a slice, which takes some milliseconds. */
const SLICE = 5_000

export { nextTurn }

/** Calls `visit` with each item and its index, in order. */
export async function visitInTurns<T>(
  items: readonly T[],
  visit: (item: T, index: number) => void,
): Promise<void> {
  // A separate function: code in a loop with `await` is optimized less well.
  function visitSlice(from: number, to: number): void {
    for (let index = from; index < to; index += 1) visit(items[index] as T, index)
  }
  for (let from = 0; from < items.length; from += SLICE) {
    if (from > 0) await nextTurn()
    visitSlice(from, Math.min(from + SLICE, items.length))
  }
}

/** Runs a computation that yields between its slices to its end. */
export async function runInTurns<T>(computation: Generator<void, T>): Promise<T> {
  for (;;) {
    const step = computation.next()
    if (step.done === true) return step.value
    await nextTurn()
  }
}

/** A sorted copy; equal items keep their order. */
export async function sortedInTurns<T>(items: readonly T[], compare: (a: T, b: T) => number): Promise<T[]> {
  let from: T[] = []
  for (let start = 0; start < items.length; start += SLICE) {
    if (start > 0) await nextTurn()
    for (const item of items.slice(start, start + SLICE).sort(compare)) from.push(item)
  }
  let to: T[] = new Array(items.length)
  for (let run = SLICE; run < items.length; run *= 2) {
    await runInTurns(mergeRuns(from, to, run, compare))
    ;[from, to] = [to, from]
  }
  return from
}

/** Merges each two sorted runs of `from` into one of `to`. */
function* mergeRuns<T>(
  from: readonly T[],
  to: T[],
  run: number,
  compare: (a: T, b: T) => number,
): Generator<void, void> {
  const { length } = from
  for (let start = 0; start < length; start += 2 * run) {
    const middle = Math.min(start + run, length)
    const end = Math.min(start + 2 * run, length)
    let [left, right] = [start, middle]
    for (let at = start; at < end; at += 1) {
      const takeLeft = left < middle && (right >= end || compare(from[left] as T, from[right] as T) <= 0)
      to[at] = from[takeLeft ? left++ : right++] as T
      if (at % SLICE === 0) yield
    }
  }
}
