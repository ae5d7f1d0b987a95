/** Reads of the repository that are under way, or whose bytes wait in memory, by the blocks that they bring. */

/** Consecutive blocks as the repository has them; shorter only at the end of the file. */
export interface Piece {
  readonly first: number
  readonly last: number
  readonly data: Buffer
}

export interface Flight {
  readonly file: number
  readonly first: number
  readonly last: number
  /** Undefined: it is in the store now, or is to be asked for by itself. */
  readonly landed: Promise<Piece | undefined>
  /** Bytes that come before it on the same way. */
  readonly distance: () => number
  /** Has landed, and is in memory until it is kept elsewhere. */
  piece?: Piece
  keeping?: boolean
}

/** Brought to the fetched store by another thread, which says so at once only when somebody here waits. */
export class ErrandFlight implements Flight {
  readonly file: number
  readonly first: number
  readonly last: number
  readonly #expect: () => void
  #waiting: PromiseWithResolvers<undefined> | undefined
  #over: ((waiting: PromiseWithResolvers<undefined>) => void) | undefined

  /** `expect` has the end told as soon as it comes. */
  constructor(file: number, first: number, last: number, expect: () => void) {
    this.file = file
    this.first = first
    this.last = last
    this.#expect = expect
  }

  get landed(): Promise<undefined> {
    if (this.#waiting === undefined) {
      this.#waiting = Promise.withResolvers<undefined>()
      if (this.#over === undefined) this.#expect()
      else this.#over(this.#waiting)
    }
    return this.#waiting.promise
  }

  distance(): number {
    return 0
  }

  /** It is in the store, or could not be kept there. */
  land(): void {
    this.#end((waiting) => waiting.resolve(undefined))
  }

  fail(error: Error): void {
    this.#end((waiting) => waiting.reject(error))
  }

  #end(over: (waiting: PromiseWithResolvers<undefined>) => void): void {
    this.#over = over
    if (this.#waiting !== undefined) over(this.#waiting)
  }
}

export class Flights {
  readonly #byFile = new Map<number, Flight[]>()

  /** The flight that brings a block soonest. */
  at(file: number, block: number): Flight | undefined {
    const flights = this.#byFile.get(file)
    if (flights === undefined) return undefined
    let soonest: Flight | undefined
    for (const flight of flights) {
      if (flight.first > block || flight.last < block) continue
      if (soonest === undefined || flight.distance() < soonest.distance()) soonest = flight
    }
    return soonest
  }

  add(flight: Flight): void {
    const flights = this.#byFile.get(flight.file)
    if (flights === undefined) this.#byFile.set(flight.file, [flight])
    else flights.push(flight)
  }

  remove(flight: Flight): void {
    const flights = this.#byFile.get(flight.file)
    const index = flights?.indexOf(flight) ?? -1
    if (flights === undefined || index < 0) return
    if (flights.length === 1) this.#byFile.delete(flight.file)
    else flights.splice(index, 1)
  }
}
