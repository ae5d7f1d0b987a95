/**
 * The engine's side of a fetched store: which blocks of the backup have a local copy, reading them and adding to them.
 * Synchronous but for `flush`; never waits and holds no timer. How blocks are found again after a restart is
 * fetched-index.ts's, reached through the services.
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'
import type { Logger } from 'pino'
import { BLOCK } from '../block-map.ts'
import type { Services } from '../services.ts'
import { CHUNK_BLOCKS, type FetchedChunk, type FetchedExtent, type FetchedState } from './fetched-index.ts'

/**
 * `kept`: reads find it from now on. `later`: there is no room this moment, `onRoom` will tell when to try again.
 * `refused`: nothing is kept now.
 */
export type Kept = 'kept' | 'later' | 'refused'

/** Room in the store. */
export interface Place {
  /** The store's file, and a position in it. */
  readonly fd: number
  readonly position: number
  /** Blocks. */
  readonly count: number
}

export interface FetchedStoreDependencies {
  /** None: nothing is held, and nothing is kept. */
  readonly state: FetchedState | undefined
  readonly services: Pick<Services, 'write' | 'sync' | 'reserveFetched' | 'saveFetched'>
  readonly logger: Logger
  /** There is room again, or there will be none. */
  readonly onRoom: () => void
  /** Milliseconds, of any beginning; for tests. */
  readonly clock?: () => number
}

/** Files and chunks as one number. */
const CHUNKS_PER_FILE = 2 ** 20
/** Bytes refused before room is asked for again: other stores may have gone. */
const ASK_AGAIN_BYTES = 64 * 1024 * 1024
const FIRST_LENGTH = 8
/** A write into the page cache takes longer only when the kernel makes writers wait for the disk. */
const BUSY_MS = 20
/** Bytes that are then another thread's to write before this one tries again. */
const BUSY_BYTES = 64 * 1024 * 1024

export class FetchedStore {
  /** Bytes of blocks that are held. */
  bytes = 0
  readonly #to: FetchedStoreDependencies
  readonly #chunks = new Map<number, Uint32Array>()
  readonly #dirty = new Set<number>()
  #fd = -1
  /** The next free slot, and the end of the extent that it lies in. */
  #next = 0
  #end = 0
  #spare: FetchedExtent | undefined
  #asking = false
  /** No extent was to be had, and so many bytes were refused since. */
  #full = false
  #refusedBytes = 0
  /** Bytes to leave to another thread. */
  #busyBytes = 0
  /** Writes of another thread under way; until they end the descriptor must not become another file's. */
  #writing = 0
  #flushing: Promise<void> = Promise.resolve()

  constructor(dependencies: FetchedStoreDependencies) {
    this.#to = dependencies
    const { state, logger } = dependencies
    if (state === undefined) return
    try {
      this.#fd = openSync(state.dataPath, constants.O_RDWR)
    } catch (err) {
      logger.warn({ err }, 'the store of fetched blocks cannot be opened; nothing is kept')
      return
    }
    this.#merge(state.chunks)
    if (state.extent === undefined) this.#full = true
    else this.#use(state.extent)
  }

  /** Writing has to wait for the disk: much at once is better left to `keepMuch`. */
  get isBusy(): boolean {
    return this.#busyBytes > 0
  }

  /** Something was kept that a restart would not find. */
  get unflushed(): boolean {
    return this.#dirty.size > 0
  }

  has(file: number, block: number): boolean {
    return this.#slot(file, block) !== 0
  }

  /**
   * Reads `length` bytes of a file of the backup into `buffer` at `offset`; false when a block of them is not held, or
   * cannot be read, after which no block is.
   */
  read(file: number, position: number, length: number, buffer: Buffer, offset: number): boolean {
    let done = 0
    while (done < length) {
      const at = position + done
      const block = Math.floor(at / BLOCK)
      const slot = this.#slot(file, block)
      if (slot === 0) return false
      const within = at - block * BLOCK
      let run = 1
      while (run * BLOCK - within < length - done && this.#slot(file, block + run) === slot + run) run++
      const bytes = Math.min(run * BLOCK - within, length - done)
      if (!this.#readAll(buffer, offset + done, bytes, slot * BLOCK + within)) return false
      done += bytes
    }
    return true
  }

  /** Keeps consecutive blocks; the last may be short where the file ends. Those that are held already stay. */
  keep(file: number, first: number, data: Buffer): Kept {
    const end = first + Math.ceil(data.length / BLOCK)
    if (this.#fd < 0 || end > CHUNKS_PER_FILE * CHUNK_BLOCKS) return 'refused'
    let block = first
    while (block < end) {
      if (this.#slot(file, block) !== 0) {
        block++
        continue
      }
      if (this.#next === this.#end && !this.#nextExtent()) return this.#outOfRoom(data.length)
      let run = 1
      const room = Math.min(end - block, this.#end - this.#next)
      while (run < room && this.#slot(file, block + run) === 0) run++
      if (!this.#write(data.subarray((block - first) * BLOCK, (block - first + run) * BLOCK)))
        return 'refused'
      this.#set(file, block, run, this.#next)
      this.#next += run
      block += run
    }
    if (this.#spare === undefined && !this.#full) this.#ask()
    return 'kept'
  }

  /**
   * As `keep`, for much at once: the writing, for which a busy disk may have to be waited, is another thread's. `data`
   * must stay as it is meanwhile.
   */
  async keepMuch(file: number, first: number, data: Buffer): Promise<Kept> {
    this.#busyBytes -= data.length
    const place = this.reserve(Math.ceil(data.length / BLOCK))
    if (place === undefined) return this.keep(file, first, data)
    try {
      await this.#to.services.write(place.fd, data, place.position)
    } catch (err) {
      this.unfilled(place)
      this.#writeFailed(err)
      return 'refused'
    }
    return this.filled(place, file, first)
  }

  /** Room for consecutive blocks that another thread will write; `filled` or `unfilled` end it. Undefined: there is none now. */
  reserve(count: number): Place | undefined {
    if (this.#fd < 0) return undefined
    if (this.#next === this.#end) this.#nextExtent()
    if (this.#end - this.#next < count) return undefined
    const position = this.#next * BLOCK
    this.#next += count
    if (this.#spare === undefined && !this.#full) this.#ask()
    this.#writing++
    return { fd: this.#fd, position, count }
  }

  /** All of a place was written: it holds blocks of a file, from `first` on. */
  filled(place: Place, file: number, first: number): Kept {
    this.unfilled(place)
    // Closed meanwhile: nobody knows what was written to.
    if (this.#fd < 0) return 'refused'
    this.#set(file, first, place.count, place.position / BLOCK)
    return 'kept'
  }

  /** Nobody writes to a place any more. */
  unfilled({ fd }: Place): void {
    this.#writing--
    if (this.#fd < 0 && this.#writing === 0) closeSync(fd)
  }

  /** Another thread could not write here: nothing is kept for a while. */
  refuse(): void {
    this.#next = this.#end
    this.#full = true
  }

  /** Makes what was kept findable by others and after a restart. Never rejects: what fails is tried again next time. */
  flush(): Promise<void> {
    this.#flushing = this.#flushing.then(() => this.#save())
    return this.#flushing
  }

  close(): void {
    if (this.#fd >= 0 && this.#writing === 0) closeSync(this.#fd)
    this.#fd = -1
    this.#chunks.clear()
    this.#dirty.clear()
    this.bytes = 0
  }

  async #save(): Promise<void> {
    if (this.#fd < 0 || this.#dirty.size === 0) return
    const keys = [...this.#dirty]
    // As they are before the sync: what is kept meanwhile may not be on disk after it.
    const chunks = keys.map((key) => this.#copy(key))
    this.#dirty.clear()
    try {
      await this.#to.services.sync(this.#fd)
      // Closed meanwhile: nobody knows what was synced.
      if (this.#fd < 0) return
      this.#merge(await this.#to.services.saveFetched(chunks))
    } catch (err) {
      this.#to.logger.warn({ err }, 'what was fetched could not be saved for later')
      if (this.#fd >= 0) for (const key of keys) this.#dirty.add(key)
    }
  }

  #slot(file: number, block: number): number {
    const slots = this.#chunks.get(file * CHUNKS_PER_FILE + Math.floor(block / CHUNK_BLOCKS))
    return slots?.[block % CHUNK_BLOCKS] ?? 0
  }

  #set(file: number, first: number, count: number, slot: number): void {
    for (let done = 0; done < count; done++) {
      const block = first + done
      const key = file * CHUNKS_PER_FILE + Math.floor(block / CHUNK_BLOCKS)
      const slots = this.#room(key, block % CHUNK_BLOCKS)
      // Others may have brought it meanwhile; what is held stays where it is.
      if (slots[block % CHUNK_BLOCKS] !== 0) continue
      slots[block % CHUNK_BLOCKS] = slot + done
      this.bytes += BLOCK
      this.#dirty.add(key)
    }
  }

  #merge(chunks: readonly FetchedChunk[]): void {
    if (this.#fd < 0) return
    for (const { file, chunk, slots } of chunks) {
      if (slots.length === 0) continue
      const mine = this.#room(file * CHUNKS_PER_FILE + chunk, slots.length - 1)
      for (let at = 0; at < slots.length; at++) {
        const slot = slots[at] ?? 0
        if (slot === 0 || mine[at] !== 0) continue
        mine[at] = slot
        this.bytes += BLOCK
      }
    }
  }

  /** The slots of a chunk, with a place for one at `index`: most files are small, their chunk grows with them. */
  #room(key: number, index: number): Uint32Array {
    const slots = this.#chunks.get(key)
    if (slots !== undefined && index < slots.length) return slots
    let length = slots?.length ?? FIRST_LENGTH
    while (length <= index) length *= 2
    const grown = new Uint32Array(length)
    if (slots !== undefined) grown.set(slots)
    this.#chunks.set(key, grown)
    return grown
  }

  #copy(key: number): FetchedChunk {
    const slots = this.#chunks.get(key) ?? new Uint32Array()
    let used = slots.length
    while (used > 0 && slots[used - 1] === 0) used--
    return {
      file: Math.floor(key / CHUNKS_PER_FILE),
      chunk: key % CHUNKS_PER_FILE,
      slots: slots.slice(0, used),
    }
  }

  #use({ first, count }: FetchedExtent): void {
    this.#next = first
    this.#end = first + count
  }

  #nextExtent(): boolean {
    if (this.#spare === undefined) return false
    this.#use(this.#spare)
    this.#spare = undefined
    return true
  }

  #outOfRoom(bytes: number): Kept {
    if (!this.#full) {
      this.#ask()
      return 'later'
    }
    this.#refusedBytes += bytes
    if (this.#refusedBytes >= ASK_AGAIN_BYTES) this.#ask()
    return 'refused'
  }

  /** Sees to the extent after this one. */
  #ask(): void {
    if (this.#asking) return
    this.#asking = true
    const given = (extent: FetchedExtent | undefined) => {
      this.#asking = false
      this.#spare = extent
      this.#full = extent === undefined
      this.#refusedBytes = 0
      this.#to.onRoom()
    }
    this.#to.services.reserveFetched(this.#end - this.#next).then(given, () => given(undefined))
  }

  #write(data: Buffer): boolean {
    const clock = this.#to.clock ?? (() => performance.now())
    const begin = clock()
    try {
      for (let done = 0; done < data.length; ) {
        done += writeSync(this.#fd, data, done, data.length - done, this.#next * BLOCK + done)
      }
      if (clock() - begin > BUSY_MS) this.#busyBytes = BUSY_BYTES
      return true
    } catch (err) {
      this.#writeFailed(err)
      return false
    }
  }

  #writeFailed(err: unknown): void {
    this.#to.logger.warn({ err }, 'a fetched block could not be kept; no more are for a while')
    this.refuse()
  }

  #readAll(buffer: Buffer, offset: number, length: number, position: number): boolean {
    try {
      for (let done = 0; done < length; ) {
        const got = readSync(this.#fd, buffer, offset + done, length - done, position + done)
        if (got === 0) throw new Error(`it ends at byte ${position + done}`)
        done += got
      }
      return true
    } catch (err) {
      this.#to.logger.error({ err }, 'the store of fetched blocks is damaged; it is not used any more')
      this.close()
      return false
    }
  }
}
