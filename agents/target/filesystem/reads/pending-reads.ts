/** Reads of the repository that are in flight, or whose bytes are still in memory, by the blocks they deliver. */

/** Consecutive blocks of the repository; shorter only at the end of the file. */
export interface Piece {
  readonly first: number
  readonly last: number
  readonly data: Buffer
}

export interface PendingRead {
  readonly file: number
  readonly first: number
  readonly last: number
  /** Undefined: the blocks are in the store now, or have to be requested separately. */
  readonly arrival: Promise<Piece | undefined>
  /** Bytes that arrive before it on the same stream. */
  readonly distance: () => number
  /** Set once it has arrived, until it is in the store. */
  piece?: Piece
  keeping?: boolean
}

/** A direct read: another thread writes it to the fetched store, and notifies this one at once only when requested. */
export class PendingDirectRead implements PendingRead {
  readonly file: number
  readonly first: number
  readonly last: number
  readonly #expect: () => void
  #waiting: PromiseWithResolvers<undefined> | undefined
  #over: ((waiting: PromiseWithResolvers<undefined>) => void) | undefined

  /** `expect` requests to be notified on completion. */
  constructor(file: number, first: number, last: number, expect: () => void) {
    this.file = file
    this.first = first
    this.last = last
    this.#expect = expect
  }

  get arrival(): Promise<undefined> {
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

  /** It completed: the blocks are in the store, or could not be written there. */
  arrive(): void {
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

export class PendingReads {
  readonly #byFile = new Map<number, PendingRead[]>()

  /** The pending read that delivers a block soonest. */
  at(file: number, block: number): PendingRead | undefined {
    const pending = this.#byFile.get(file)
    if (pending === undefined) return undefined
    let soonest: PendingRead | undefined
    for (const read of pending) {
      if (read.first > block || read.last < block) continue
      if (soonest === undefined || read.distance() < soonest.distance()) soonest = read
    }
    return soonest
  }

  add(read: PendingRead): void {
    const pending = this.#byFile.get(read.file)
    if (pending === undefined) this.#byFile.set(read.file, [read])
    else pending.push(read)
  }

  remove(read: PendingRead): void {
    const pending = this.#byFile.get(read.file)
    const index = pending?.indexOf(read) ?? -1
    if (pending === undefined || index < 0) return
    if (pending.length === 1) this.#byFile.delete(read.file)
    else pending.splice(index, 1)
  }
}
