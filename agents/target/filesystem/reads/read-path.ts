/**
 * The contents of the backup: what is held locally is copied at once, what is missing is brought from the repository,
 * one read for each block however many wait for it, with read-ahead bounded in memory. What arrives is kept in the
 * fetched store where there is room. Knows nothing of what the session changed but to leave it alone.
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
/** Bytes under way or waiting to be kept beyond which nothing is read ahead. */
const AHEAD_BUDGET = 24 * 1024 * 1024
/** Bytes that stay in memory when the store has no room for them: what was read ahead is still to be read. */
const MEMORY_BUDGET = 16 * 1024 * 1024
/** More is another thread's to write while the disk is busy. */
const WRITTEN_IN_THIS_THREAD = 64 * 1024
/** How far from its turn a block of the prefetch may be for its reader to wait for it. */
const NEAR = 1024 * 1024
/** Bytes of a prefetch, with and without a store to put them in. */
const MAX_PREFETCH = 64 * 1024 * 1024
const MAX_PREFETCH_IN_MEMORY = MEMORY_BUDGET / 2

export interface ReadPathDependencies {
  readonly base: BaseTree
  readonly services: Pick<
    Services,
    'read' | 'readMany' | 'write' | 'sync' | 'reserveFetched' | 'saveFetched' | 'dropFetched'
  >
  /** None: nothing that is fetched is kept. */
  readonly fetched: FetchedState | undefined
  /** None: this thread answers all reads. */
  readonly directReads?: DirectReads | undefined
  readonly logger: Logger
}

export class ReadPath {
  /** Bytes that came from the source. */
  fetchedBytes = 0
  lastError: string | undefined
  readonly #to: ReadPathDependencies
  readonly #store: FetchedStore
  readonly #pending = new PendingReads()
  /** What has arrived and could not be kept yet, oldest first. */
  readonly #inMemory = new Set<PendingRead>()
  #memoryBytes = 0
  /** What has arrived and is on its way to the store. Never reject. */
  readonly #keeps = new Set<Promise<void>>()
  #underWay = 0
  /** Files of the backup of which nothing is kept that came before their damage was found. */
  readonly #damagedFiles = new Set<number>()
  #recorder: TouchRecorder | undefined = new TouchRecorder()

  constructor(dependencies: ReadPathDependencies) {
    this.#to = dependencies
    const { fetched: state, services, logger } = dependencies
    this.#store = new FetchedStore({ state, services, logger, onRoom: () => this.#keepInMemory() })
  }

  /** Bytes of the backup that are held locally, by whomever they were fetched. */
  get heldBytes(): number {
    return this.#store.bytes
  }

  /** Something was kept that a restart would not find. */
  get unflushed(): boolean {
    return this.#store.unflushed
  }

  /** Whether a block of the range, as far as it is the backup's and unchanged, has to come from the repository. */
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
   * All missing blocks of the range, each with its neighbours that were asked for together.
   * @throws FileSystemError EIO
   */
  async fetch(inode: Inode, first: number, last: number): Promise<Piece[]> {
    for (;;) {
      const reads = this.#readsFor(inode, first, Math.min(last, inode.baseBlocks - 1))
      const pieces = await Promise.all(reads.map(({ arrival }) => arrival))
      const got = pieces.filter((piece) => piece !== undefined)
      // What a prefetch left out is asked for by itself; what a direct read brought is in the store.
      if (got.length === pieces.length) return got
    }
  }

  /**
   * Has another thread answer who asks for bytes `position` to `end`, all of which are missing; false: this thread has
   * to, because others are fetching some of them, or because it is not worth it or not possible.
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
    const over = () => {
      this.#underWay -= length
      this.#pending.remove(read)
    }
    const expect = directReads.send({
      ...requester,
      ...{ file, offset, length, from: position - offset, to: end - offset },
      ...{ fd: place.fd, position: place.position },
      onCompleted: (checks) => {
        this.fetchedBytes += length
        over()
        if (checks === undefined) this.#store.refuse()
        else this.#store.filled(place, file, first, checks)
        read.arrive()
      },
      onFailed: (error) => {
        over()
        read.fail(this.#unreadable(inode, offset, length, error))
      },
    })
    const read = new PendingDirectRead(file, first, last, expect)
    this.#underWay += length
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

  /** Notes a read of bytes `position` to `end`, and reads ahead where the file is being scanned. */
  noteRead(inode: Inode, position: number, end: number): void {
    if (position >= inode.baseSize || this.#to.base.file(inode.ino) < 0) return
    this.noteUse(inode, position, end)
    const ahead = advance(inode.streams, position, end, inode.baseSize)
    if (ahead === undefined) return
    if (this.#underWay + this.#memoryBytes + ahead.to - ahead.from > AHEAD_BUDGET) {
      undoReadAhead(inode.streams, ahead.from)
      return
    }
    // Whoever reads these blocks gets the error, if there is one.
    this.#readsFor(inode, Math.ceil(ahead.from / BLOCK), Math.ceil(ahead.to / BLOCK) - 1, true)
  }

  /** Notes that bytes of the backup are needed, whatever for. */
  noteUse(inode: Inode, position: number, end: number): void {
    if (this.#recorder === undefined) return
    const last = Math.ceil(Math.min(end, inode.baseSize) / BLOCK) - 1
    this.#recorder.touch(inode.ino, Math.floor(position / BLOCK), last)
  }

  /** Ends the recording of what is touched, and gives it; undefined when it has ended before. */
  settled(): TouchedRecord | undefined {
    const record = this.#recorder?.record(this.#to.base)
    this.#recorder = undefined
    return record
  }

  /** Fetches what an earlier publish touched, as far as it is not held. Resolves when it has come; never rejects. */
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
      logger.warn({ err }, 'what the last publish touched could not be fetched ahead')
    }
    stream.end()
  }

  /** As `FetchedStore.noteDamaged`. */
  noteDamaged(file: number, block: number): void {
    this.#store.noteDamaged(file, block)
  }

  /** As `FetchedStore.flush`, with what is being kept. */
  async flush(): Promise<void> {
    await Promise.all(this.#keeps)
    await this.#store.flush()
  }

  close(): void {
    this.#store.close()
  }

  /** Reads under way, those begun now included, that bring what is missing; `ahead`: nobody waits for it yet. */
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
    this.#underWay += length
    const arrival = this.#read(inode, file, offset, length).then((data) => ({ first, last, data }))
    const read: PendingRead = { file, first, last, arrival, distance: () => 0 }
    this.#pending.add(read)
    arrival.then(
      (piece) => {
        this.#underWay -= length
        this.fetchedBytes += length
        this.#settle(read, piece)
      },
      () => {
        this.#underWay -= length
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
    // A file that is damaged as a whole is found out when much of it was kept.
    const file = base.file(inode.ino)
    if (cause instanceof HowdahError && cause.code === 'backup_damaged' && !this.#damagedFiles.has(file)) {
      this.#damagedFiles.add(file)
      this.#store.drop(file)
    }
    this.lastError = `${path}: ${cause instanceof Error ? cause.message : String(cause)}`
    logger.error({ err: cause, file: path, offset, length }, 'a block could not be read from the repository')
    return new FileSystemError('EIO', `${path} could not be read from the repository`, { cause })
  }

  /** Keeps what has arrived, after those who waited for it were answered. */
  #settle(read: PendingRead, piece: Piece): void {
    read.piece = piece
    this.#inMemory.add(read)
    this.#memoryBytes += piece.data.length
    const kept = answersGiven()
      .then(() => this.#keep(read, piece))
      .finally(() => this.#keeps.delete(kept))
    this.#keeps.add(kept)
  }

  async #keep(read: PendingRead, { first, data }: Piece): Promise<void> {
    for (const oldest of this.#inMemory) {
      if (this.#memoryBytes <= MEMORY_BUDGET) break
      this.#leaveMemory(oldest)
    }
    if (read.keeping) return
    read.keeping = true
    const { file } = read
    const kept =
      data.length <= WRITTEN_IN_THIS_THREAD || !this.#store.isBusy
        ? this.#store.keep(file, first, data)
        : await this.#store.keepMuch(file, first, data)
    read.keeping = false
    if (kept === 'kept') this.#leaveMemory(read)
  }

  /** There is room in the store again, or there will be none. */
  #keepInMemory(): void {
    for (const read of this.#inMemory) {
      if (read.piece !== undefined) void this.#keep(read, read.piece)
    }
  }

  #leaveMemory(read: PendingRead): void {
    if (!this.#inMemory.delete(read)) return
    this.#memoryBytes -= read.piece?.data.length ?? 0
    this.#pending.remove(read)
  }
}

/** Promises that lead from a piece to the answer of the request that waits for it, generously counted. */
const HOPS = 10

async function answersGiven(): Promise<void> {
  for (let hop = 0; hop < HOPS; hop++) await undefined
}
