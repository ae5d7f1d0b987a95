/**
 * The engine's side of a fetched store: which blocks of the backup have a local copy, reading them and adding to them.
 * Synchronous but for `flush`; never waits and holds no timer. How blocks are found again after a restart is
 * fetched-index.ts's, reached through the services.
 */
import { readSync, writeSync } from 'node:fs'
import type { Logger } from 'pino'
import { BLOCK } from '../contents/block-map.ts'
import type { Services } from '../services.ts'
import { blockCheck, blockChecks } from './block-check.ts'
import { DamagedBlocks } from './damaged-blocks.ts'
import type { FetchedExtent, FetchedState } from './fetched-index.ts'
import { HeldBlocks, MAX_FILE_BLOCKS } from './held-blocks.ts'

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

/** Bytes refused before room is asked for again: other stores may have gone. */
const ASK_AGAIN_BYTES = 64 * 1024 * 1024
/** A write into the page cache takes longer only when the kernel makes writers wait for the disk. */
const BUSY_MS = 20
/** Bytes that are then another thread's to write before this one tries again. */
const BUSY_BYTES = 64 * 1024 * 1024

export class FetchedStore {
  readonly #to: FetchedStoreDependencies
  readonly #held = new HeldBlocks()
  readonly #damaged = new DamagedBlocks()
  readonly #scratch = Buffer.alloc(BLOCK)
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
  #disabled = false
  #flushing: Promise<void> = Promise.resolve()

  constructor(dependencies: FetchedStoreDependencies) {
    this.#to = dependencies
    const { state } = dependencies
    if (state === undefined) return
    this.#fd = state.fd
    this.#held.merge(state.chunks)
    if (state.extent === undefined) this.#full = true
    else this.#use(state.extent)
  }

  /** Bytes of blocks that are held. */
  get bytes(): number {
    return this.#held.count * BLOCK
  }

  /** Writing has to wait for the disk: much at once is better left to `keepMuch`. */
  get isBusy(): boolean {
    return this.#busyBytes > 0
  }

  /** Something was kept that a restart would not find. */
  get unflushed(): boolean {
    return this.#held.hasUnsaved
  }

  has(file: number, block: number): boolean {
    return this.#held.slot(file, block) !== 0
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
      const slot = this.#held.slot(file, block)
      if (slot === 0) return false
      const within = at - block * BLOCK
      let run = 1
      while (run * BLOCK - within < length - done && this.#held.slot(file, block + run) === slot + run) run++
      const bytes = Math.min(run * BLOCK - within, length - done)
      const to = offset + done
      if (!this.#readAll(buffer, to, bytes, slot * BLOCK + within)) return false
      for (let index = 0; index < run; index++) {
        const from = to + index * BLOCK - within
        const isWhole = from >= to && from + BLOCK <= to + bytes
        const whole = isWhole ? buffer.subarray(from, from + BLOCK) : undefined
        if (!this.#isIntact(file, block + index, whole)) return false
      }
      done += bytes
    }
    return true
  }

  /** Keeps consecutive blocks; the last may be short where the file ends. Those that are held already stay. */
  keep(file: number, first: number, data: Buffer): Kept {
    const end = first + Math.ceil(data.length / BLOCK)
    if (this.#fd < 0 || end > MAX_FILE_BLOCKS) return 'refused'
    let block = first
    while (block < end) {
      if (this.#held.slot(file, block) !== 0 || this.isDamaged(file, block)) {
        block++
        continue
      }
      if (this.#next === this.#end && !this.#nextExtent()) return this.#outOfRoom(data.length)
      let run = 1
      const room = Math.min(end - block, this.#end - this.#next)
      while (run < room && this.#held.slot(file, block + run) === 0 && !this.isDamaged(file, block + run))
        run++
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
    if (this.#fd < 0 || this.#disabled) return undefined
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
    if (this.#fd < 0 || this.#disabled) return 'refused'
    this.#set(file, first, position / BLOCK, checks)
    return 'kept'
  }

  /** Whether the repository has something else than what PostgreSQL wrote; it is not kept. */
  isDamaged(file: number, block: number): boolean {
    return this.#damaged.has(file, block)
  }

  /** A block of the repository is damaged: it is not kept, so that whoever reads it once that is mended gets it right. */
  noteDamaged(file: number, block: number): void {
    if (this.#damaged.add(file, block)) this.drop(file)
    else this.#forget(file, block)
  }

  /** What is held of a file is wrong: it is not held any more, neither here nor by whoever opens the store later. */
  drop(file: number): void {
    if (this.#held.forgetFile(file)) this.#dropSaved(file)
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
    this.#held.forgetAll()
  }

  async #save(): Promise<void> {
    if (this.#fd < 0 || !this.#held.hasUnsaved) return
    // As they are before the sync: what is kept meanwhile may not be on disk after it.
    const chunks = this.#held.takeUnsaved()
    try {
      await this.#to.services.sync(this.#fd)
    } catch (err) {
      this.#syncFailed(err)
      return
    }
    // Closed meanwhile: nobody knows what was synced.
    if (this.#fd < 0) return
    try {
      const others = await this.#to.services.saveFetched(this.#held.stillHeld(chunks))
      this.#held.saved(chunks)
      if (this.#fd >= 0) this.#held.merge(others)
    } catch (err) {
      this.#to.logger.warn({ err }, 'what was fetched could not be saved for later')
      if (this.#fd >= 0) this.#held.notSaved(chunks)
    }
  }

  /** What the index does not name may be anything on disk from now on, and so may whatever else is written. */
  #syncFailed(err: unknown): void {
    this.#to.logger.error(
      { err },
      'fetched blocks cannot be made durable; this session keeps no more of them',
    )
    this.#disabled = true
    this.#spare = undefined
    this.refuse()
    this.#held.forgetUnsaved()
    this.#to.onRoom()
  }

  /**
   * Whether a block that was read is as it was written. `whole`: its bytes, where all of them were read. Compared once in
   * each process: it takes 1 to 3 µs, which would be a tenth of a read that is answered from here.
   */
  #isIntact(file: number, block: number, whole: Buffer | undefined): boolean {
    if (this.#held.isVerified(file, block)) return true
    const slot = this.#held.slot(file, block)
    if (slot === 0) return false
    if (whole === undefined && !this.#readAll(this.#scratch, 0, BLOCK, slot * BLOCK)) return false
    if (this.#held.verify(file, block, blockCheck(whole ?? this.#scratch))) return true
    this.#to.logger.error(
      { file, block, slot },
      'a fetched block is not as it was written; it is fetched again. See whether the disk is sound',
    )
    this.#forget(file, block)
    return false
  }

  /** Also of a block that is being saved just now: what is asked of the index is done in order. */
  #forget(file: number, block: number): void {
    const slot = this.#held.forget(file, block)
    if (slot !== undefined) this.#dropSaved(file, [slot])
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
      if (!this.isDamaged(file, first + done)) this.#held.add(file, first + done, slot + done, check)
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
    if (this.#disabled) return 'refused'
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
      if (this.#disabled) return
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
