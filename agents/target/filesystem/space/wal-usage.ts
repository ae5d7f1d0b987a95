/**
 * Space that PostgreSQL's WAL uses in a write cache. PostgreSQL writes it past the mount, directly into a directory of the
 * cache, so it can only be measured. Never throws: a directory that cannot be read counts as before.
 */
import { readdirSync, statSync } from 'node:fs'

/** Unit of `st_blocks`; stat(2). */
const STAT_BLOCK_BYTES = 512
/** Age at which a measurement is repeated, ms. */
const FRESH_MS = 100
/** Share of the time that may be spent measuring, as a divisor: thousands of segments take milliseconds. */
const TIME_SHARE = 20
/** WAL of this many bytes may be written while as many bytes of changes are: then the age does not count. */
const FRESH_BYTES = 4 * 1024 * 1024

/** What a measurement costs and finds; tests have others. */
export interface WalMeasure {
  /** Allocated bytes of the directory's files. */
  readonly measure: () => number
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
}

export class WalUsage {
  /** Allocated bytes when last measured. */
  bytes = 0
  readonly #measure: () => number
  readonly #now: () => number
  #measuredAt = Number.NEGATIVE_INFINITY
  #freshMs = FRESH_MS
  #changedSince = 0

  constructor({ measure, now }: WalMeasure) {
    this.#measure = measure
    this.#now = now
  }

  /**
   * Measures when `bytes` may be out of date, `changed` more bytes of changes having been written since the last call.
   * Returns whether it did.
   */
  refresh(changed = 0): boolean {
    this.#changedSince += changed
    const before = this.#now()
    const age = before - this.#measuredAt
    if (age < this.#freshMs && (this.#changedSince < FRESH_BYTES || this.#freshMs > FRESH_MS)) return false
    try {
      this.bytes = this.#measure()
    } catch {
      // It does not exist yet, or a segment was being removed.
    }
    this.#measuredAt = this.#now()
    this.#freshMs = Math.max(FRESH_MS, (this.#measuredAt - before) * TIME_SHARE)
    this.#changedSince = 0
    return true
  }
}

/** Measures a directory, without directories in it. */
export function walUsageOf(directory: string): WalUsage {
  return new WalUsage({ measure: () => allocatedBytes(directory), now: () => performance.now() })
}

/** Allocated bytes of the files of one directory; files that PostgreSQL removes meanwhile count as nothing. */
function allocatedBytes(directory: string): number {
  let bytes = 0
  for (const name of readdirSync(directory)) {
    bytes += (statSync(`${directory}/${name}`, { throwIfNoEntry: false })?.blocks ?? 0) * STAT_BLOCK_BYTES
  }
  return bytes
}
