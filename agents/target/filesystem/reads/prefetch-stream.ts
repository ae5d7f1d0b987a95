/** The pending reads of one prefetch, which arrive in order or are omitted. Sends no request itself. */
import type { RangeData } from '../../../dataplane/backup-source.ts'
import { BLOCK } from '../contents/block-map.ts'
import type { PlannedRange } from '../fetched/prefetch.ts'
import type { PendingRead, Piece } from './pending-reads.ts'

export class PrefetchStream {
  readonly reads: readonly PendingRead[]
  readonly #ranges: readonly PlannedRange[]
  readonly #resolve: ((piece: Piece | undefined) => void)[] = []
  readonly #onOmitted: (read: PendingRead) => void
  /** The next range, and its position in the stream in bytes. */
  #next = 0
  #at = 0

  constructor(ranges: readonly PlannedRange[], onOmitted: (read: PendingRead) => void) {
    this.#ranges = ranges
    this.#onOmitted = onOmitted
    let due = 0
    this.reads = ranges.map(({ file, offset, length }) => {
      const { promise, resolve } = Promise.withResolvers<Piece | undefined>()
      this.#resolve.push(resolve)
      const place = due
      due += length
      const first = offset / BLOCK
      return {
        file,
        first,
        last: first + Math.ceil(length / BLOCK) - 1,
        arrival: promise,
        distance: () => place - this.#at,
      }
    })
  }

  /** The read that a piece completes; earlier ones that have not arrived were omitted. */
  take({ file, offset, data }: RangeData): { read: PendingRead; piece: Piece } | undefined {
    for (let index = this.#next; index < this.#ranges.length; index++) {
      const range = this.#ranges[index]
      const read = this.reads[index]
      if (range === undefined || read === undefined) return undefined
      if (range.file !== file || range.offset !== offset || range.length !== data.length) continue
      this.#omit(index)
      this.#next = index + 1
      this.#at += range.length
      const piece = { first: read.first, last: read.last, data }
      this.#resolve[index]?.(piece)
      return { read, piece }
    }
    return undefined
  }

  /** The stream ended: reads that have not arrived were omitted. */
  end(): void {
    this.#omit(this.#ranges.length)
  }

  #omit(end: number): void {
    for (; this.#next < end; this.#next++) {
      const read = this.reads[this.#next]
      this.#at += this.#ranges[this.#next]?.length ?? 0
      if (read !== undefined) this.#onOmitted(read)
      this.#resolve[this.#next]?.(undefined)
    }
  }
}
