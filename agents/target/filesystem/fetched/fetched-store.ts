/**
 * The engine's side of a fetched store: which blocks of the backup have a local copy, reading them and adding to them.
 * Synchronous but for `flush`; never waits and holds no timer. How blocks are found again after a restart is
 * fetched-index.ts's, reached through the services.
 */
import { readSync, writeSync } from 'node:fs'
import type { Logger } from 'pino'
import { BLOCK } from '../block-map.ts'
import type { Services } from '../services.ts'
import { blockCheck, blockChecks } from './block-check.ts'
import { CHUNK_BLOCKS, type FetchedChunk } from './fetched-chunks.ts'
import type { FetchedExtent, FetchedState } from './fetched-index.ts'

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
  readonly services: Pick<Services, 'write' | 'sync' | 'reserveFetched' | 'saveFetched' | 'dropFetched'>
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

/** Damaged blocks of a file from which on nothing of it is kept. */
const MANY_DAMAGED = 1000

/** What is known of a chunk's blocks; a slot of 0 holds nothing. */
interface Held {
  slots: Uint32Array
  checks: Uint32Array
  /** For each block, of `VERIFIED` and `UNSAVED`. */
  flags: Uint8Array
}

/**
 * Its bytes were compared with their checksum in this process. Once for each block: comparing takes 3 µs, which would be
 * a tenth of a read that is answered from here.
 */
const VERIFIED = 1
/** The index does not name it: nobody has said that it is on disk. */
const UNSAVED = 2

export class FetchedStore {
  /** Bytes of blocks that are held. */
  bytes = 0
  readonly #to: FetchedStoreDependencies
  readonly #chunks = new Map<number, Held>()
  readonly #scratch = Buffer.alloc(BLOCK)
  readonly #dirty = new Set<number>()
  /** Blocks that must not be kept, by file: what the repository has of them is damaged. */
  readonly #damaged = new Map<number, Set<number>>()
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
  /** A sync failed: the kernel may have dropped what was written, and a sync after it would succeed without. */
  #refusesForGood = false
  #flushing: Promise<void> = Promise.resolve()

  constructor(dependencies: FetchedStoreDependencies) {
    this.#to = dependencies
    const { state } = dependencies
    if (state === undefined) return
    this.#fd = state.fd
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
   * is not as it was written, after which it is not held; or when the store cannot be read, after which no block is.
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
      const to = offset + done
      if (!this.#readAll(buffer, to, bytes, slot * BLOCK + within)) return false
      for (let index = 0; index < run; index++) {
        const from = to + index * BLOCK - within
        const isWhole = from >= to && from + BLOCK <= to + bytes
        const whole = isWhole ? buffer.subarray(from, from + BLOCK) : undefined
        if (!this.#isTrue(file, block + index, whole)) return false
      }
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
      if (this.#slot(file, block) !== 0 || this.isDamaged(file, block)) {
        block++
        continue
      }
      if (this.#next === this.#end && !this.#nextExtent()) return this.#outOfRoom(data.length)
      let run = 1
      const room = Math.min(end - block, this.#end - this.#next)
      while (run < room && this.#slot(file, block + run) === 0 && !this.isDamaged(file, block + run)) run++
      const part = data.subarray((block - first) * BLOCK, (block - first + run) * BLOCK)
      if (!this.#write(part)) return 'refused'
      this.#set(file, block, this.#next, blockChecks(part))
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
    const checks = blockChecks(data)
    try {
      await this.#to.services.write(place.fd, data, place.position)
    } catch (err) {
      this.#writeFailed(err)
      return 'refused'
    }
    return this.filled(place, file, first, checks)
  }

  /** Room for consecutive blocks that another thread will write; `filled` tells that it did. Undefined: there is none now. */
  reserve(count: number): Place | undefined {
    if (this.#fd < 0 || this.#refusesForGood) return undefined
    if (this.#next === this.#end) this.#nextExtent()
    if (this.#end - this.#next < count) return undefined
    const position = this.#next * BLOCK
    this.#next += count
    if (this.#spare === undefined && !this.#full) this.#ask()
    return { fd: this.#fd, position, count }
  }

  /** All of a place was written: it holds blocks of a file, from `first` on, of these checksums. */
  filled({ position }: Place, file: number, first: number, checks: readonly number[]): Kept {
    // Closed or failed meanwhile: nobody knows what was written to.
    if (this.#fd < 0 || this.#refusesForGood) return 'refused'
    this.#set(file, first, position / BLOCK, checks)
    return 'kept'
  }

  /** Whether the repository has something else than what PostgreSQL wrote; it is not kept. */
  isDamaged(file: number, block: number): boolean {
    if (this.#damaged.size === 0) return false
    const blocks = this.#damaged.get(file)
    return blocks !== undefined && (blocks.size > MANY_DAMAGED || blocks.has(block))
  }

  /** A block of the repository is damaged: it is not kept, so that whoever reads it once that is mended gets it right. */
  noteDamaged(file: number, block: number): void {
    const blocks = this.#damaged.get(file) ?? new Set()
    this.#damaged.set(file, blocks)
    if (blocks.size > MANY_DAMAGED) return
    blocks.add(block)
    if (blocks.size > MANY_DAMAGED) this.drop(file)
    const held = this.#chunks.get(file * CHUNKS_PER_FILE + Math.floor(block / CHUNK_BLOCKS))
    const index = block % CHUNK_BLOCKS
    const slot = held?.slots[index] ?? 0
    if (held === undefined || slot === 0) return
    const isSaved = ((held.flags[index] ?? 0) & UNSAVED) === 0
    this.#forget(held.slots, held.flags, index)
    if (isSaved) this.#dropSaved(file, [slot])
  }

  /** What is held of a file is wrong: it is not held any more, neither here nor by whoever opens the store later. */
  drop(file: number): void {
    let held = false
    for (const [key, { slots, flags }] of this.#chunks) {
      if (Math.floor(key / CHUNKS_PER_FILE) !== file) continue
      for (let index = 0; index < slots.length; index++) {
        if (slots[index] === 0) continue
        held = true
        this.#forget(slots, flags, index)
      }
    }
    if (held) this.#dropSaved(file)
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
    this.#fd = -1
    this.#chunks.clear()
    this.#dirty.clear()
    this.bytes = 0
  }

  async #save(): Promise<void> {
    if (this.#fd < 0 || this.#dirty.size === 0) return
    const keys = [...this.#dirty]
    // As they are before the sync: what is kept meanwhile may not be on disk after it.
    const chunks = keys.map((key) => this.#unsaved(key))
    this.#dirty.clear()
    try {
      await this.#to.services.sync(this.#fd)
    } catch (err) {
      this.#syncFailed(err)
      return
    }
    // Closed meanwhile: nobody knows what was synced.
    if (this.#fd < 0) return
    try {
      const others = await this.#to.services.saveFetched(chunks)
      for (const [index, chunk] of chunks.entries()) this.#saved(keys[index] ?? 0, chunk)
      this.#merge(others)
    } catch (err) {
      this.#to.logger.warn({ err }, 'what was fetched could not be saved for later')
      if (this.#fd >= 0) for (const key of keys) this.#dirty.add(key)
    }
  }

  /** What the index does not name may be anything on disk from now on, and so may whatever else is written. */
  #syncFailed(err: unknown): void {
    this.#to.logger.error(
      { err },
      'fetched blocks cannot be made durable; this session keeps no more of them',
    )
    this.#refusesForGood = true
    this.#spare = undefined
    this.refuse()
    this.#dirty.clear()
    for (const { slots, flags } of this.#chunks.values()) {
      for (let index = 0; index < slots.length; index++) {
        if (((flags[index] ?? 0) & UNSAVED) !== 0) this.#forget(slots, flags, index)
      }
    }
    this.#to.onRoom()
  }

  #slot(file: number, block: number): number {
    const held = this.#chunks.get(file * CHUNKS_PER_FILE + Math.floor(block / CHUNK_BLOCKS))
    return held?.slots[block % CHUNK_BLOCKS] ?? 0
  }

  /** Whether a block that was read is as it was written. `whole`: its bytes, where all of them were read. */
  #isTrue(file: number, block: number, whole: Buffer | undefined): boolean {
    const held = this.#chunks.get(file * CHUNKS_PER_FILE + Math.floor(block / CHUNK_BLOCKS))
    const index = block % CHUNK_BLOCKS
    const flags = held?.flags[index] ?? 0
    if ((flags & VERIFIED) !== 0) return true
    const slot = held?.slots[index] ?? 0
    if (held === undefined || slot === 0) return false
    if (whole === undefined && !this.#readAll(this.#scratch, 0, BLOCK, slot * BLOCK)) return false
    if (blockCheck(whole ?? this.#scratch) === held.checks[index]) {
      held.flags[index] = flags | VERIFIED
      return true
    }
    this.#to.logger.error(
      { file, block, slot },
      'a fetched block is not as it was written; it is fetched again. See whether the disk is sound',
    )
    this.#forget(held.slots, held.flags, index)
    if ((flags & UNSAVED) === 0) this.#dropSaved(file, [slot])
    return false
  }

  #forget(slots: Uint32Array, flags: Uint8Array, index: number): void {
    slots[index] = 0
    flags[index] = 0
    this.bytes -= BLOCK
  }

  #dropSaved(file: number, slots?: readonly number[]): void {
    this.#to.services.dropFetched(file, slots).catch((err: unknown) => {
      // Whoever opens the store later finds it out.
      this.#to.logger.warn({ err }, 'wrong blocks could not be taken out of the store of fetched blocks')
    })
  }

  /** Blocks in consecutive slots from `slot` on. */
  #set(file: number, first: number, slot: number, checks: readonly number[]): void {
    for (const [done, check] of checks.entries()) {
      const block = first + done
      const index = block % CHUNK_BLOCKS
      const key = file * CHUNKS_PER_FILE + Math.floor(block / CHUNK_BLOCKS)
      const held = this.#room(key, index)
      // Others may have brought it meanwhile; what is held stays where it is.
      if (held.slots[index] !== 0 || this.isDamaged(file, block)) continue
      held.slots[index] = slot + done
      held.checks[index] = check
      held.flags[index] = UNSAVED
      this.bytes += BLOCK
      this.#dirty.add(key)
    }
  }

  #merge(chunks: readonly FetchedChunk[]): void {
    if (this.#fd < 0) return
    for (const { file, chunk, slots, checks } of chunks) {
      if (slots.length === 0) continue
      const mine = this.#room(file * CHUNKS_PER_FILE + chunk, slots.length - 1)
      for (let at = 0; at < slots.length; at++) {
        const slot = slots[at] ?? 0
        if (slot === 0 || mine.slots[at] !== 0) continue
        mine.slots[at] = slot
        mine.checks[at] = checks[at] ?? 0
        this.bytes += BLOCK
      }
    }
  }

  /** A chunk with a place for a block at `index`: most files are small, their chunk grows with them. */
  #room(key: number, index: number): Held {
    const held = this.#chunks.get(key)
    if (held !== undefined && index < held.slots.length) return held
    let length = held?.slots.length ?? FIRST_LENGTH
    while (length <= index) length *= 2
    const grown: Held = {
      slots: new Uint32Array(length),
      checks: new Uint32Array(length),
      flags: new Uint8Array(length),
    }
    if (held !== undefined) {
      grown.slots.set(held.slots)
      grown.checks.set(held.checks)
      grown.flags.set(held.flags)
    }
    this.#chunks.set(key, grown)
    return grown
  }

  /** Only what the index does not name: what others have taken out of it shall not come back by this session. */
  #unsaved(key: number): FetchedChunk {
    const { slots, checks, flags } = this.#room(key, 0)
    const used = flags.findLastIndex((flag) => (flag & UNSAVED) !== 0) + 1
    return {
      file: Math.floor(key / CHUNKS_PER_FILE),
      chunk: key % CHUNKS_PER_FILE,
      slots: slots.slice(0, used).map((slot, index) => (((flags[index] ?? 0) & UNSAVED) !== 0 ? slot : 0)),
      checks: checks.slice(0, used),
    }
  }

  #saved(key: number, { slots }: FetchedChunk): void {
    const held = this.#chunks.get(key)
    if (held === undefined) return
    for (const [index, slot] of slots.entries()) {
      const flags = held.flags[index] ?? 0
      if (slot !== 0 && held.slots[index] === slot) held.flags[index] = flags & ~UNSAVED
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
    if (this.#refusesForGood) return 'refused'
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
      if (this.#refusesForGood) return
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
