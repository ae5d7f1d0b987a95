/**
 * How long the requests of one kind took, counted where a counter may cost next to nothing: numbers in memory that threads can
 * share, no objects. One thread writes; any may read. prom-client knows nothing of it: latency-metric.ts shows it.
 */

/** Upper bounds of the buckets, in seconds; the last one has none. */
export const LATENCY_BOUNDS = [
  ...[20e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 20e-3],
  ...[100e-3, 500e-3, 2, 10, 60],
] as const

const BOUNDS_MS = Float64Array.from(LATENCY_BOUNDS, (seconds) => seconds * 1000)
const BUCKETS = LATENCY_BOUNDS.length + 1
/** A row: the sum of milliseconds, the sum of bytes, then the buckets, each with what is in it alone. */
const BYTES = 1
const FIRST_BUCKET = 2
const ROW = FIRST_BUCKET + BUCKETS

/** Totals of one kind of request. */
export interface LatencyTotals {
  readonly seconds: number
  readonly bytes: number
  /** Requests by bucket, each with what is in it alone. */
  readonly counts: readonly number[]
}

/** By the name of the request; those are missing of which there was none. */
export type LatencySnapshot = Readonly<Record<string, LatencyTotals>>

/** `row`: the number of the kind of request. */
export type ObserveLatency = (row: number, milliseconds: number, bytes: number) => void

export class Latencies {
  readonly memory: SharedArrayBuffer
  readonly #names: readonly string[]
  readonly #cells: Float64Array<SharedArrayBuffer>

  /** `names`: of the rows. `memory`: of the same rows in another thread. */
  constructor(names: readonly string[], memory = new SharedArrayBuffer(names.length * ROW * 8)) {
    this.memory = memory
    this.#names = names
    this.#cells = new Float64Array(memory)
  }

  /** Ignores a row that there is not. */
  readonly observe: ObserveLatency = (row, milliseconds, bytes) => {
    if (row < 0 || row >= this.#names.length) return
    const at = row * ROW
    const cells = this.#cells
    let bucket = 0
    while (bucket < BOUNDS_MS.length && milliseconds > (BOUNDS_MS[bucket] as number)) bucket += 1
    cells[at] = (cells[at] as number) + milliseconds
    cells[at + BYTES] = (cells[at + BYTES] as number) + bytes
    const counter = at + FIRST_BUCKET + bucket
    cells[counter] = (cells[counter] as number) + 1
  }

  snapshot(): LatencySnapshot {
    const found: Record<string, LatencyTotals> = {}
    for (const [row, name] of this.#names.entries()) {
      const [milliseconds = 0, bytes = 0, ...counts] = this.#cells.slice(row * ROW, (row + 1) * ROW)
      if (counts.some((count) => count > 0)) found[name] = { seconds: milliseconds / 1000, bytes, counts }
    }
    return found
  }
}

/** `one` and, where it is given, `other`, less `earlier`. Never less than nothing, bucket by bucket. */
export function sumOf(
  one: LatencySnapshot,
  other: LatencySnapshot = {},
  earlier: LatencySnapshot = {},
): LatencySnapshot {
  const names = new Set([...Object.keys(one), ...Object.keys(other)])
  return Object.fromEntries(
    [...names].map((name) => {
      const total = (pick: (totals: LatencyTotals) => number): number => {
        const of = (snapshot: LatencySnapshot): number => {
          const totals = snapshot[name]
          return totals === undefined ? 0 : pick(totals)
        }
        return Math.max(0, of(one) + of(other) - of(earlier))
      }
      const counts = Array.from({ length: BUCKETS }, (_, bucket) =>
        total(({ counts }) => counts[bucket] ?? 0),
      )
      return [name, { seconds: total(({ seconds }) => seconds), bytes: total(({ bytes }) => bytes), counts }]
    }),
  )
}
