/**
 * Brings missing blocks from the repository: one read for each block however many wait for it, read-ahead that grows
 * with sequential use, bounded in time and memory. What arrives is kept in the local file where there is room.
 */
import type { Logger } from 'pino'
import type { BaseTree } from './base-tree.ts'
import { ABSENT, BLOCK, FETCHED } from './block-map.ts'
import type { DataFiles } from './data-files.ts'
import { FileSystemError } from './file-system.ts'
import type { Inode } from './inode.ts'
import type { Services } from './services.ts'
import type { Space } from './space.ts'

/** Consecutive blocks as the repository has them; shorter only at the end of the file. */
export interface Piece {
  readonly first: number
  readonly last: number
  readonly data: Buffer
}

/** How one reader has read a file, to tell a scan from random touches. */
export interface ReadStream {
  /** Where the next read begins, if it goes on. */
  next: number
  /** Bytes to be ahead of the reader. */
  window: number
  /** Up to where reading ahead was started. */
  ahead: number
}

/** Readers of one file that are told apart. */
const MAX_STREAMS = 4

/** Bytes in one read of the source, and the most that is read ahead of one reader. */
const MAX_READ = 1024 * 1024
/** Bytes by which the kernel's parallel reads of one scan may come out of order. */
const REORDERING = 128 * 1024
/** Bytes under way beyond which nothing is read ahead. */
const AHEAD_BUDGET = 16 * 1024 * 1024

export interface ReadPathDependencies {
  readonly base: BaseTree
  readonly services: Pick<Services, 'read'>
  readonly files: DataFiles
  readonly space: Space
  readonly logger: Logger
  /** Blocks of the inode were kept. */
  readonly onKept: (inode: Inode) => void
}

const ZEROS = Buffer.alloc(BLOCK)

export class ReadPath {
  /** Bytes that came from the source. */
  fetchedBytes = 0
  reads = 0
  lastError: string | undefined
  readonly #to: ReadPathDependencies
  #underWay = 0

  constructor(dependencies: ReadPathDependencies) {
    this.#to = dependencies
  }

  /** Whether a block of the range has to come from the repository. */
  isMissing(inode: Inode, first: number, last: number): boolean {
    const end = Math.min(last, inode.baseBlocks - 1)
    for (let block = first; block <= end; block++) if (inode.map.get(block) === ABSENT) return true
    return false
  }

  /**
   * All missing blocks of the range, each with its neighbours that were asked for together.
   * @throws FileSystemError EIO
   */
  fetch(inode: Inode, first: number, last: number): Promise<Piece[]> {
    const pieces = new Set<Promise<Piece>>()
    const end = Math.min(last, inode.baseBlocks - 1)
    for (let block = first; block <= end; block++) {
      if (inode.map.get(block) !== ABSENT) continue
      let piece = inode.fetching.get(block)
      if (piece === undefined) {
        let runEnd = block
        while (
          runEnd < end &&
          runEnd - block + 1 < MAX_READ / BLOCK &&
          inode.map.get(runEnd + 1) === ABSENT &&
          !inode.fetching.has(runEnd + 1)
        ) {
          runEnd++
        }
        piece = this.#start(inode, block, runEnd)
      }
      pieces.add(piece)
    }
    return Promise.all(pieces)
  }

  /** Notes a read of bytes `position` to `end` and reads ahead when the file is being scanned there. */
  advance(inode: Inode, position: number, end: number): void {
    const { streams } = inode
    let index = streams.findIndex(({ next }) => Math.abs(position - next) <= REORDERING)
    const goesOn = index >= 0
    if (!goesOn) {
      index = streams.length < MAX_STREAMS ? streams.length : 0
      streams[index] = { next: end, window: 0, ahead: end }
    }
    const [stream] = streams.splice(index, 1)
    if (stream === undefined) return
    // The one that was read least recently is first.
    streams.push(stream)
    // Read before: an overtaken request of the kernel, or the same bytes again.
    if (!goesOn || end <= stream.next) return
    stream.next = end
    stream.window = Math.min(Math.max(stream.window * 2, (end - position) * 2), MAX_READ)
    if (end >= inode.baseSize) return
    const from = Math.max(stream.ahead, end)
    const to = Math.min(stream.next + stream.window, inode.baseSize)
    // In portions worth a round trip, unless it is the rest of the file.
    if (to - from < Math.min(stream.window / 2, inode.baseSize - from)) return
    if (this.#underWay + (to - from) > AHEAD_BUDGET) return
    stream.ahead = to
    // Whoever reads these blocks gets the error.
    this.fetch(inode, Math.ceil(from / BLOCK), Math.ceil(to / BLOCK) - 1).catch(() => undefined)
  }

  #start(inode: Inode, first: number, last: number): Promise<Piece> {
    const offset = first * BLOCK
    const length = Math.min((last + 1) * BLOCK, inode.baseSize) - offset
    this.#underWay += length
    const piece = this.#read(inode, offset, length)
      .then((data) => {
        this.fetchedBytes += data.length
        const got = { first, last, data }
        this.#keep(inode, got)
        return got
      })
      .finally(() => {
        this.#underWay -= length
        for (let block = first; block <= last; block++) inode.fetching.delete(block)
      })
    for (let block = first; block <= last; block++) inode.fetching.set(block, piece)
    return piece
  }

  async #read(inode: Inode, offset: number, length: number): Promise<Buffer> {
    const { base, services, logger } = this.#to
    const content = base.content(inode.ino)
    if (content !== undefined) return content.subarray(offset, offset + length)
    this.reads++
    try {
      const data = await services.read(base.file(inode.ino), offset, length)
      if (data.length !== length) throw new Error(`the repository gave ${data.length} bytes of ${length}`)
      return data
    } catch (cause) {
      const file = base.path(inode.ino)
      this.lastError = `${file}: ${cause instanceof Error ? cause.message : String(cause)}`
      logger.error({ err: cause, file, offset, length }, 'a block could not be read from the repository')
      throw new FileSystemError('EIO', `${file} could not be read from the repository`, { cause })
    }
  }

  /** Keeps what is still missing, as far as it still belongs to the file. */
  #keep(inode: Inode, { first, last, data }: Piece): void {
    const { files, space, logger, onKept } = this.#to
    if (inode.freed || !space.mayKeep(last - first + 1)) return
    const end = Math.min(last, inode.baseBlocks - 1)
    try {
      for (let block = first; block <= end; block++) {
        if (inode.map.get(block) !== ABSENT) continue
        let runEnd = block
        while (runEnd < end && inode.map.get(runEnd + 1) === ABSENT) runEnd++
        const bytes = data.subarray(
          (block - first) * BLOCK,
          Math.min((runEnd + 1) * BLOCK, inode.baseSize) - first * BLOCK,
        )
        files.write(inode, bytes, bytes.length, block * BLOCK)
        const rest = (runEnd - block + 1) * BLOCK - bytes.length
        if (rest > 0) files.write(inode, ZEROS, rest, block * BLOCK + bytes.length)
        inode.map.set(block, runEnd, FETCHED)
        inode.dataDirty = true
        block = runEnd
      }
      onKept(inode)
    } catch (err) {
      // Reading goes on without a copy; writes will tell that the cache is in trouble.
      logger.warn({ err, inode: inode.ino }, 'a fetched block could not be kept in the write cache')
    }
  }
}
