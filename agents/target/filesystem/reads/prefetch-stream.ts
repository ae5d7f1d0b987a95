/** The flights of one prefetch, which land in their order or are left out. Asks for nothing itself. */
import type { RangeData } from '../../../dataplane/backup-source.ts'
import { BLOCK } from '../contents/block-map.ts'
import type { PlannedRange } from '../fetched/prefetch.ts'
import type { Flight, Piece } from './flights.ts'

export class PrefetchStream {
  readonly flights: readonly Flight[]
  readonly #ranges: readonly PlannedRange[]
  readonly #land: ((piece: Piece | undefined) => void)[] = []
  readonly #onLeftOut: (flight: Flight) => void
  /** The range that comes next, and its place in the stream, in bytes. */
  #next = 0
  #at = 0

  constructor(ranges: readonly PlannedRange[], onLeftOut: (flight: Flight) => void) {
    this.#ranges = ranges
    this.#onLeftOut = onLeftOut
    let due = 0
    this.flights = ranges.map(({ file, offset, length }) => {
      const { promise, resolve } = Promise.withResolvers<Piece | undefined>()
      this.#land.push(resolve)
      const place = due
      due += length
      const first = offset / BLOCK
      return {
        file,
        first,
        last: first + Math.ceil(length / BLOCK) - 1,
        landed: promise,
        distance: () => place - this.#at,
      }
    })
  }

  /** The flight that a piece completes; those before it were left out. */
  take({ file, offset, data }: RangeData): { flight: Flight; piece: Piece } | undefined {
    for (let index = this.#next; index < this.#ranges.length; index++) {
      const range = this.#ranges[index]
      const flight = this.flights[index]
      if (range === undefined || flight === undefined) return undefined
      if (range.file !== file || range.offset !== offset || range.length !== data.length) continue
      this.#leaveOut(index)
      this.#next = index + 1
      this.#at += range.length
      const piece = { first: flight.first, last: flight.last, data }
      this.#land[index]?.(piece)
      return { flight, piece }
    }
    return undefined
  }

  /** Nothing more comes: what has not landed was left out. */
  end(): void {
    this.#leaveOut(this.#ranges.length)
  }

  #leaveOut(end: number): void {
    for (; this.#next < end; this.#next++) {
      const flight = this.flights[this.#next]
      this.#at += this.#ranges[this.#next]?.length ?? 0
      if (flight !== undefined) this.#onLeftOut(flight)
      this.#land[this.#next]?.(undefined)
    }
  }
}
