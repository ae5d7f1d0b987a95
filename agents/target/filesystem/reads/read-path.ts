/**
 * The contents of the backup: blocks in the fetched store are copied synchronously, missing ones are read from the
 * repository, each once however many readers wait for it, with read-ahead bounded in memory. What arrives is kept in the
 * fetched store where there is space. Blocks that the session changed are skipped.
 */
import type { Logger } from 'pino'
import { HowdahError } from '../../../../messages/errors.ts'
import { BLOCK } from '../contents/block-map.ts'
import type { FetchedState } from '../fetched/fetched-index.ts'
import { FetchedStore } from '../fetched/fetched-store.ts'
import { planPrefetch } from '../fetched/prefetch.ts'
import { type TouchedRecord, TouchRecorder } from '../fetched/touched-record.ts'
import { FileSystemError } from '../file-system.ts'
import type { Inode } from '../namespace/inode.ts'
import type { Services } from '../services.ts'
import type { BaseTree } from '../tree/base-tree.ts'
import { type DirectReads, MAX_DIRECT_READ_BYTES, type Requester } from './direct-reads.ts'
import { PendingDirectRead, type PendingRead, PendingReads, type Piece } from './pending-reads.ts'
import { PrefetchStream } from './prefetch-stream.ts'
import { advance, undoReadAhead } from './read-ahead.ts'

/** Bytes in one read of the source. */
const MAX_READ = 1024 * 1024
/** No read-ahead while more bytes than this are in flight or in memory. */
const AHEAD_BUDGET = 24 * 1024 * 1024
/** Bytes kept in memory when the store has no space for them: read-ahead that is still to be read. */
const MEMORY_BUDGET = 16 * 1024 * 1024
/** While the disk is busy, larger pieces are written by another thread. */
const WRITTEN_IN_THIS_THREAD = 64 * 1024
/** A reader waits for a block of the prefetch only when it is at most this many bytes away in the stream. */
const NEAR = 1024 * 1024
/** Maximum bytes of a prefetch, with and without a store. */
const MAX_PREFETCH = 64 * 1024 * 1024
const MAX_PREFETCH_IN_MEMORY = MEMORY_BUDGET / 2

export interface ReadPathDependencies {
  readonly base: BaseTree
  readonly services: Pick<
    Services,
    'read' | 'readMany' | 'write' | 'sync' | 'reserveFetched' | 'saveFetched' | 'dropFetched'
  >
  /** Undefined: no fetched block is kept. */
  readonly fetched: FetchedState | undefined
  /** Undefined: this thread answers all reads. */
  readonly directReads?: DirectReads | undefined
  readonly logger: Logger
}

export class ReadPath {
  /** Bytes read from the source. */
  fetchedBytes = 0
  lastError: string | undefined
  readonly #to: ReadPathDependencies
  readonly #store: FetchedStore
  readonly #pending = new PendingReads()
  /** Reads that have arrived but are not in the store yet, oldest first. */
  readonly #inMemory = new Set<PendingRead>()
  #memoryBytes = 0
  /** Writes of arrived pieces to the store. Never reject. */
  readonly #storing = new Set<Promise<void>>()
  #inFlightBytes = 0
  /** Damaged files whose earlier blocks were dropped from the store. */
  readonly #damagedFiles = new Set<number>()
  #recorder: TouchRecorder | undefined = new TouchRecorder()

  constructor(dependencies: ReadPathDependencies) {
    this.#to = dependencies
    const { fetched: state, services, logger } = dependencies
    this.#store = new FetchedStore({ state, services, logger, onRoom: () => this.#keepInMemory() })
  }

  /** Bytes of the backup in the fetched store, whichever session fetched them. */
  get heldBytes(): number {
    return this.#store.bytes
  }

  /** The store has blocks that its index does not name yet. */
  get unflushed(): boolean {
    return this.#store.unflushed
  }

  /** Whether an unchanged block of the range has to be read from the repository. */
  isMissing(inode: Inode, first: number, last: number): boolean {
    const file = this.#to.base.file(inode.ino)
    if (file < 0) return false
    const end = Math.min(last, inode.baseBlocks - 1)
    for (let block = first; block <= end; block++) {
      if (!inode.map.isChanged(block) && !this.#store.has(file, block)) return true
    }
    return false
  }

  /**
   * Fetches all missing blocks of the range, together with neighbours that are read in the same request.
   * @throws FileSystemError EIO
   */
  async fetch(inode: Inode, first: number, last: number): Promise<Piece[]> {
    for (;;) {
      const reads = this.#readsFor(inode, first, Math.min(last, inode.baseBlocks - 1))
      const pieces = await Promise.all(reads.map(({ arrival }) => arrival))
      const got = pieces.filter((piece) => piece !== undefined)
      // A block that a prefetch omitted is requested again; one that a direct read fetched is in the store.
      if (got.length === pieces.length) return got
    }
  }

  /**
   * Sends a direct read for bytes `position` to `end`, all of which are missing; false: this thread has to answer, because
   * some of them are already being fetched, or the read is too large, or no direct read is possible.
   */
  sendDirectRead(inode: Inode, position: number, end: number, requester: Requester): boolean {
    const { base, directReads } = this.#to
    if (directReads === undefined || directReads.isFull || end > inode.baseSize) return false
    const file = base.file(inode.ino)
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    const offset = first * BLOCK
    const length = Math.min((last + 1) * BLOCK, base.size(inode.ino)) - offset
    if (file < 0 || length > MAX_DIRECT_READ_BYTES) return false
    for (let block = first; block <= last; block++) {
      if (inode.map.isChanged(block) || this.#store.has(file, block)) return false
      if (this.#store.isDamaged(file, block)) return false
      if (this.#pending.at(file, block) !== undefined) return false
    }
    const place = this.#store.reserve(last - first + 1)
    if (place === undefined) return false
    const completed = () => {
      this.#inFlightBytes -= length
      this.#pending.remove(read)
    }
    const expect = directReads.send({
      ...requester,
      ...{ file, offset, length, from: position - offset, to: end - offset },
      ...{ fd: place.fd, position: place.position },
      onCompleted: (checks) => {
        this.fetchedBytes += length
        completed()
        if (checks === undefined) this.#store.refuse()
        else this.#store.filled(place, file, first, checks)
        read.arrive()
      },
      onFailed: (error) => {
        completed()
        read.fail(this.#unreadable(inode, offset, length, error))
      },
    })
    const read = new PendingDirectRead(file, first, last, expect)
    this.#inFlightBytes += length
    this.#pending.add(read)
    return true
  }

  /** Copies bytes `position` to `end`, unchanged since the backup; false when some are neither held nor in `pieces`. */
  copy(
    inode: Inode,
    position: number,
    end: number,
    buffer: Buffer,
    offset: number,
    pieces: readonly Piece[],
  ): boolean {
    if (position >= end) return true
    const { base } = this.#to
    const content = base.content(inode.ino)
    if (content !== undefined) {
      content.copy(buffer, offset, position, end)
      return true
    }
    for (let at = position; at < end; ) {
      const block = Math.floor(at / BLOCK)
      const to = offset + at - position
      let stop = end
      const piece = pieces.find(({ first, last }) => first <= block && block <= last)
      if (piece !== undefined) {
        const start = piece.first * BLOCK
        stop = Math.min(end, start + piece.data.length)
        if (stop <= at) throw new FileSystemError('EIO', `block ${block} was fetched in part only`)
        piece.data.copy(buffer, to, at - start, stop - start)
      } else {
        for (const { first } of pieces) if (first > block) stop = Math.min(stop, first * BLOCK)
        if (!this.#store.read(base.file(inode.ino), at, stop - at, buffer, to)) return false
      }
      at = stop
    }
    return true
  }

  /** Records a read of bytes `position` to `end`, and reads ahead where the file is being scanned. */
  noteRead(inode: Inode, position: number, end: number): void {
    if (position >= inode.baseSize || this.#to.base.file(inode.ino) < 0) return
    this.noteUse(inode, position, end)
    const ahead = advance(inode.streams, position, end, inode.baseSize)
    if (ahead === undefined) return
    if (this.#inFlightBytes + this.#memoryBytes + ahead.to - ahead.from > AHEAD_BUDGET) {
      undoReadAhead(inode.streams, ahead.from)
      return
    }
    // An error is reported to the reader of these blocks.
    this.#readsFor(inode, Math.ceil(ahead.from / BLOCK), Math.ceil(ahead.to / BLOCK) - 1, true)
  }

  /** Records that bytes of the backup were used, for the touched record. */
  noteUse(inode: Inode, position: number, end: number): void {
    if (this.#recorder === undefined) return
    const last = Math.ceil(Math.min(end, inode.baseSize) / BLOCK) - 1
    this.#recorder.touch(inode.ino, Math.floor(position / BLOCK), last)
  }

  /** Ends the recording of touched blocks and returns the record; undefined when it had already ended. */
  settled(): TouchedRecord | undefined {
    const record = this.#recorder?.record(this.#to.base)
    this.#recorder = undefined
    return record
  }

  /** Fetches blocks an earlier publish touched that have no local copy. Resolves when they have arrived; never rejects. */
  async prefetch(record: TouchedRecord): Promise<void> {
    const { base, services, logger } = this.#to
    const isHeld = (file: number, block: number) =>
      this.#store.has(file, block) || this.#pending.at(file, block) !== undefined
    const budget = this.#to.fetched?.extent === undefined ? MAX_PREFETCH_IN_MEMORY : MAX_PREFETCH
    const ranges = planPrefetch(record, base, { isHeld, budget, maxRange: MAX_READ })
    if (ranges.length === 0) return
    const stream = new PrefetchStream(ranges, (read) => this.#pending.remove(read))
    for (const read of stream.reads) this.#pending.add(read)
    try {
      await services.readMany(ranges, (data) => {
        this.fetchedBytes += data.data.length
        const arrived = stream.take(data)
        if (arrived !== undefined) this.#settle(arrived.read, arrived.piece)
      })
    } catch (err) {
      logger.warn({ err }, 'the blocks that the last publish touched could not be prefetched')
    }
    stream.end()
  }

  /** As `FetchedStore.noteDamaged`. */
  noteDamaged(file: number, block: number): void {
    this.#store.noteDamaged(file, block)
  }

  /** As `FetchedStore.flush`, after pending writes to the store. */
  async flush(): Promise<void> {
    await Promise.all(this.#storing)
    await this.#store.flush()
  }

  close(): void {
    this.#store.close()
  }

  /** Pending reads, including those started now, that deliver the missing blocks; `ahead`: no reader waits for them yet. */
  #readsFor(inode: Inode, first: number, last: number, ahead = false): PendingRead[] {
    const file = this.#to.base.file(inode.ino)
    const wanted: PendingRead[] = []
    if (file < 0) return wanted
    const missing = (block: number) => !inode.map.isChanged(block) && !this.#store.has(file, block)
    for (let block = first; block <= last; ) {
      if (!missing(block)) {
        block++
        continue
      }
      let read = this.#pending.at(file, block)
      if (read === undefined || (!ahead && read.distance() > NEAR)) {
        let end = block
        const furthest = Math.min(last, block + MAX_READ / BLOCK - 1)
        while (end < furthest && missing(end + 1) && this.#pending.at(file, end + 1) === undefined) end++
        read = this.#start(inode, file, block, end)
      }
      wanted.push(read)
      block = read.last + 1
    }
    return wanted
  }

  #start(inode: Inode, file: number, first: number, last: number): PendingRead {
    const offset = first * BLOCK
    const length = Math.min((last + 1) * BLOCK, this.#to.base.size(inode.ino)) - offset
    this.#inFlightBytes += length
    const arrival = this.#read(inode, file, offset, length).then((data) => ({ first, last, data }))
    const read: PendingRead = { file, first, last, arrival, distance: () => 0 }
    this.#pending.add(read)
    arrival.then(
      (piece) => {
        this.#inFlightBytes -= length
        this.fetchedBytes += length
        this.#settle(read, piece)
      },
      () => {
        this.#inFlightBytes -= length
        this.#pending.remove(read)
      },
    )
    return read
  }

  async #read(inode: Inode, file: number, offset: number, length: number): Promise<Buffer> {
    const { services } = this.#to
    try {
      const data = await services.read(file, offset, length)
      if (data.length !== length) throw new Error(`the repository gave ${data.length} bytes of ${length}`)
      return data
    } catch (cause) {
      throw this.#unreadable(inode, offset, length, cause)
    }
  }

  #unreadable(inode: Inode, offset: number, length: number, cause: unknown): FileSystemError {
    const { base, logger } = this.#to
    const path = base.path(inode.ino)
    // Damage of a whole file may be detected only after many of its blocks were kept.
    const file = base.file(inode.ino)
    if (cause instanceof HowdahError && cause.code === 'backup_damaged' && !this.#damagedFiles.has(file)) {
      this.#damagedFiles.add(file)
      this.#store.drop(file)
    }
    this.lastError = `${path}: ${cause instanceof Error ? cause.message : String(cause)}`
    logger.error({ err: cause, file: path, offset, length }, 'a block could not be read from the repository')
    return new FileSystemError('EIO', `${path} could not be read from the repository`, { cause })
  }

  /** Stores an arrived piece, after the requests that waited for it were answered. */
  #settle(read: PendingRead, piece: Piece): void {
    read.piece = piece
    this.#inMemory.add(read)
    this.#memoryBytes += piece.data.length
    const kept = repliesSent()
      .then(() => this.#keep(read, piece))
      .finally(() => this.#storing.delete(kept))
    this.#storing.add(kept)
  }

  async #keep(read: PendingRead, { first, data }: Piece): Promise<void> {
    for (const oldest of this.#inMemory) {
      if (this.#memoryBytes <= MEMORY_BUDGET) break
      this.#releaseMemory(oldest)
    }
    if (read.keeping) return
    read.keeping = true
    const { file } = read
    const kept =
      data.length <= WRITTEN_IN_THIS_THREAD || !this.#store.isBusy
        ? this.#store.keep(file, first, data)
        : await this.#store.keepMuch(file, first, data)
    read.keeping = false
    if (kept === 'kept') this.#releaseMemory(read)
  }

  /** The store has space again, or will have none. */
  #keepInMemory(): void {
    for (const read of this.#inMemory) {
      if (read.piece !== undefined) void this.#keep(read, read.piece)
    }
  }

  #releaseMemory(read: PendingRead): void {
    if (!this.#inMemory.delete(read)) return
    this.#memoryBytes -= read.piece?.data.length ?? 0
    this.#pending.remove(read)
  }
}

/** Promise jobs between the arrival of a piece and the reply to the request that waits for it, with a margin. */
const HOPS = 10

async function repliesSent(): Promise<void> {
  for (let hop = 0; hop < HOPS; hop++) await undefined
}
