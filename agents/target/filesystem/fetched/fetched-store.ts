/**
 * The engine's side of a fetched store: which blocks of the backup have a local copy, reading and adding copies.
 * Synchronous except for `keepMuch` and `flush`; holds no timer. fetched-index.ts, reached through the services, makes
 * the blocks available after a restart.
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
 * `kept`: reads find it from now on. `later`: there is no space at the moment, `onRoom` is called when to retry.
 * `refused`: nothing is kept for now.
 */
export type Kept = 'kept' | 'later' | 'refused'

/** Consecutive reserved slots of the store. */
export interface Place {
  /** The store's file, and a position in it. */
  readonly fd: number
  readonly position: number
  /** Blocks. */
  readonly count: number
}

export interface FetchedStoreDependencies {
  /** Undefined: no block is held, and none is kept. */
  readonly state: FetchedState | undefined
  readonly services: Pick<Services, 'write' | 'sync' | 'reserveFetched' | 'saveFetched' | 'dropFetched'>
  readonly logger: Logger
  /** Called when there is space again, or when there will be none. */
  readonly onRoom: () => void
  /** Monotonic milliseconds; for tests. */
  readonly clock?: () => number
}

/** Bytes refused before an extent is requested again: other stores may have been removed. */
const ASK_AGAIN_BYTES = 64 * 1024 * 1024
/** A write to the page cache takes longer only when the kernel throttles writers. */
const BUSY_MS = 20
/** Bytes that another thread then writes before this one tries again. */
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
  #extentRequested = false
  /** No extent was available, and this many bytes were refused since. */
  #full = false
  #refusedBytes = 0
  /** Bytes that another thread is to write. */
  #busyBytes = 0
  /** A sync failed: the kernel may have dropped written pages, and a later sync would succeed without them. */
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

  /** Writes have to wait for the disk: use `keepMuch` for large pieces. */
  get isBusy(): boolean {
    return this.#busyBytes > 0
  }

  /** Blocks were kept that the index does not name yet. */
  get unflushed(): boolean {
    return this.#held.hasUnsaved
  }

  has(file: number, block: number): boolean {
    return this.#held.slot(file, block) !== 0
  }

  /**
   * Reads `length` bytes of a file of the backup into `buffer` at `offset`; false when one of the blocks is not held, or
   * does not match its checksum and is dropped, or when the store cannot be read and is closed.
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

  /** Keeps consecutive blocks; the last may be short at the end of the file. Blocks that are already held are skipped. */
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
    if (this.#spare === undefined && !this.#full) this.#requestExtent()
    return 'kept'
  }

  /**
   * As `keep`, for large pieces: another thread writes them, and waits for a busy disk. `data` must not change until it
   * resolves.
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

  /** Reserves slots for consecutive blocks that another thread will write; `filled` reports that it did. Undefined: no space now. */
  reserve(count: number): Place | undefined {
    if (this.#fd < 0 || this.#disabled) return undefined
    if (this.#next === this.#end) this.#nextExtent()
    if (this.#end - this.#next < count) return undefined
    const position = this.#next * BLOCK
    this.#next += count
    if (this.#spare === undefined && !this.#full) this.#requestExtent()
    return { fd: this.#fd, position, count }
  }

  /** All of a place was written: it now holds blocks of a file, from `first` on, with these checksums. */
  filled({ position }: Place, file: number, first: number, checks: readonly number[]): Kept {
    // Closed or failed meanwhile: what was written cannot be trusted.
    if (this.#fd < 0 || this.#disabled) return 'refused'
    this.#set(file, first, position / BLOCK, checks)
    return 'kept'
  }

  /** Whether the block is damaged in the repository; it is not kept. */
  isDamaged(file: number, block: number): boolean {
    return this.#damaged.has(file, block)
  }

  /** A block is damaged in the repository: it is not kept, so that reads get the correct one once the repository is repaired. */
  noteDamaged(file: number, block: number): void {
    if (this.#damaged.add(file, block)) this.drop(file)
    else this.#forget(file, block)
  }

  /** The held blocks of a file are wrong: drops them here and from the index. */
  drop(file: number): void {
    if (this.#held.forgetFile(file)) this.#dropSaved(file)
  }

  /** Another thread could not write to the store: nothing is kept for a while. */
  refuse(): void {
    this.#next = this.#end
    this.#full = true
  }

  /** Syncs and saves kept blocks in the index, for other sessions and for a restart. Never rejects: the next call retries. */
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
    // Taken before the sync: blocks kept meanwhile may not be on disk after it.
    const chunks = this.#held.takeUnsaved()
    try {
      await this.#to.services.sync(this.#fd)
    } catch (err) {
      this.#syncFailed(err)
      return
    }
    // Closed meanwhile: the descriptor may have been another file's.
    if (this.#fd < 0) return
    try {
      const others = await this.#to.services.saveFetched(this.#held.stillHeld(chunks))
      this.#held.saved(chunks)
      if (this.#fd >= 0) this.#held.merge(others)
    } catch (err) {
      this.#to.logger.warn({ err }, 'the index of fetched blocks could not be saved')
      if (this.#fd >= 0) this.#held.notSaved(chunks)
    }
  }

  /** Blocks that the index does not name may have been lost, and later writes cannot be trusted either. */
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
   * Whether a block matches its checksum. `whole`: its bytes, if all of them were read. Checked once per process: it takes
   * 1 to 3 µs, a tenth of the time of a read from the store.
   */
  #isIntact(file: number, block: number, whole: Buffer | undefined): boolean {
    if (this.#held.isVerified(file, block)) return true
    const slot = this.#held.slot(file, block)
    if (slot === 0) return false
    if (whole === undefined && !this.#readAll(this.#scratch, 0, BLOCK, slot * BLOCK)) return false
    if (this.#held.verify(file, block, blockCheck(whole ?? this.#scratch))) return true
    this.#to.logger.error(
      { file, block, slot },
      'a fetched block does not match its checksum; it is fetched again. Check the disk',
    )
    this.#forget(file, block)
    return false
  }

  /** Safe while the block is being saved: the index handles requests in order. */
  #forget(file: number, block: number): void {
    const slot = this.#held.forget(file, block)
    if (slot !== undefined) this.#dropSaved(file, [slot])
  }

  #dropSaved(file: number, slots?: readonly number[]): void {
    this.#to.services.dropFetched(file, slots).catch((err: unknown) => {
      // A process that opens the store later detects the wrong checksum.
      this.#to.logger.warn({ err }, 'wrong blocks could not be removed from the store of fetched blocks')
    })
  }

  /** Records blocks in consecutive slots from `slot` on. */
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
      this.#requestExtent()
      return 'later'
    }
    if (this.#disabled) return 'refused'
    this.#refusedBytes += bytes
    if (this.#refusedBytes >= ASK_AGAIN_BYTES) this.#requestExtent()
    return 'refused'
  }

  /** Requests the extent after this one. */
  #requestExtent(): void {
    if (this.#extentRequested) return
    this.#extentRequested = true
    const given = (extent: FetchedExtent | undefined) => {
      this.#extentRequested = false
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
    this.#to.logger.warn({ err }, 'a fetched block could not be kept; keeping is suspended for a while')
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
      this.#to.logger.error({ err }, 'the store of fetched blocks is damaged; it is no longer used')
      this.close()
      return false
    }
  }
}
