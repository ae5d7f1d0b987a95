/**
 * The bytes of files: which come from the local file, which from the repository and which are zero. Synchronous unless
 * a block is missing. Knows no names; the durability of what it writes is durability.ts's.
 */
import { ABSENT, BLOCK, CHANGED } from './block-map.ts'
import type { DataFiles } from './data-files.ts'
import type { Durability } from './durability.ts'
import { FileSystemError, type MaybePromise } from './file-system.ts'
import type { Inode } from './inode.ts'
import { localError } from './local-error.ts'
import type { Piece, ReadPath } from './read-path.ts'
import type { Space } from './space.ts'

export interface FileContentsDependencies {
  readonly files: DataFiles
  readonly readPath: ReadPath
  readonly space: Space
  readonly durability: Durability
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint
}

export class FileContents {
  readonly #to: FileContentsDependencies

  constructor(dependencies: FileContentsDependencies) {
    this.#to = dependencies
  }

  /** As `FileSystem.read`. */
  read(inode: Inode, buffer: Buffer, length: number, position: number): MaybePromise<number> {
    const end = Math.min(position + length, inode.size)
    if (position >= end) return 0
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    const { readPath } = this.#to
    if (!readPath.isMissing(inode, first, last)) {
      this.#copy(inode, buffer, position, end, [])
      if (inode.baseSize > end) readPath.advance(inode, position, end)
      return end - position
    }
    const pieces = readPath.fetch(inode, first, last)
    readPath.advance(inode, position, end)
    return this.#pinned(inode, pieces, (got) => {
      // The file may have been cut meanwhile.
      const now = Math.min(end, inode.size)
      if (position >= now) return 0
      this.#copy(inode, buffer, position, now, got)
      return now - position
    })
  }

  /** As `FileSystem.write`. @throws FileSystemError ENOSPC | EIO */
  write(inode: Inode, buffer: Buffer, length: number, position: number): MaybePromise<number> {
    if (length === 0) return 0
    const missing = this.#edges(inode, position, position + length).filter((block) =>
      this.#needsBase(inode, block, position, position + length),
    )
    if (missing.length === 0) return this.#apply(inode, buffer, length, position, [])
    const pieces = Promise.all(missing.map((block) => this.#to.readPath.fetch(inode, block, block)))
    return this.#pinned(inode, pieces, (got) => this.#apply(inode, buffer, length, position, got.flat()))
  }

  /** Cuts or extends a file; what is added reads as zeros. */
  resize(inode: Inode, size: number): void {
    const { durability, now, space } = this.#to
    if (size < inode.size) {
      const before = inode.map.changed
      inode.map.clearFrom(Math.ceil(size / BLOCK))
      space.give(before - inode.map.changed)
      inode.baseSize = Math.min(inode.baseSize, size)
      inode.tailClean = false
      inode.trim = true
    } else if (size > inode.size) {
      this.#cleanTail(inode)
    }
    inode.size = size
    inode.mtime = inode.ctime = now()
    inode.essential = true
    durability.contentsChanged(inode)
    durability.attributesChanged(inode)
  }

  /** Goes on with an inode once `work` is done. */
  async #pinned<T>(inode: Inode, work: Promise<T>, then: (done: T) => number): Promise<number> {
    inode.pins++
    try {
      return then(await work)
    } finally {
      inode.pins--
    }
  }

  #apply(inode: Inode, buffer: Buffer, length: number, position: number, pieces: readonly Piece[]): number {
    const { durability, files, now, space } = this.#to
    const end = position + length
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    const added = last - first + 1 - inode.map.countChanged(first, last)
    space.take(added)
    try {
      // Also when it does not grow: a crash may bring the old size back, and then the block is the new one, whole.
      if (end > inode.size || last === Math.floor(inode.size / BLOCK)) this.#cleanTail(inode)
      // A block enters the map whole, so nothing that the local file held before can show.
      for (const block of this.#edges(inode, position, end)) {
        const needsBase = this.#needsBase(inode, block, position, end)
        this.#seed(inode, block, needsBase ? pieces : undefined)
      }
      files.write(inode, buffer, length, position)
    } catch (error) {
      space.give(added)
      throw localError(error)
    }
    const grown = end > inode.size
    if (grown) inode.size = end
    inode.mtime = inode.ctime = now()
    inode.dataDirty = true
    if (inode.map.set(first, last, CHANGED) || grown) inode.essential = true
    durability.contentsChanged(inode)
    durability.attributesChanged(inode)
    return length
  }

  /** Blocks that a write covers in part and that have no local copy. */
  #edges(inode: Inode, position: number, end: number): number[] {
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    const edges: number[] = []
    if (position % BLOCK !== 0 && inode.map.get(first) === ABSENT) edges.push(first)
    if (end % BLOCK !== 0 && inode.map.get(last) === ABSENT && edges[0] !== last) edges.push(last)
    return edges
  }

  /** Whether bytes of the block that the write leaves alone are the repository's. */
  #needsBase(inode: Inode, block: number, position: number, end: number): boolean {
    if (block >= inode.baseBlocks) return false
    const blockEnd = Math.min((block + 1) * BLOCK, inode.baseSize)
    return position > block * BLOCK || end < blockEnd
  }

  /** Writes a block as the repository has it, or zeros. */
  #seed(inode: Inode, block: number, pieces: readonly Piece[] | undefined): void {
    const seed = Buffer.alloc(BLOCK)
    if (pieces !== undefined) {
      const end = Math.min((block + 1) * BLOCK, inode.baseSize)
      copyFromPieces(pieces, seed, 0, block * BLOCK, end)
    }
    this.#to.files.write(inode, seed, BLOCK, block * BLOCK)
  }

  /** What follows the end in its block may be left from a longer file; it must read as zeros once the file grows. */
  #cleanTail(inode: Inode): void {
    const rest = BLOCK - (inode.size % BLOCK)
    const block = Math.floor(inode.size / BLOCK)
    if (!inode.tailClean && rest < BLOCK && inode.map.get(block) !== ABSENT) {
      this.#to.files.write(inode, Buffer.alloc(rest), rest, inode.size)
      inode.dataDirty = true
    }
    inode.tailClean = true
  }

  /** Bytes `position` to `end`, run by run of blocks of the same kind. */
  #copy(inode: Inode, buffer: Buffer, position: number, end: number, pieces: readonly Piece[]): void {
    let at = position
    while (at < end) {
      let block = Math.floor(at / BLOCK)
      const local = inode.map.get(block) !== ABSENT
      const missing = !local && block < inode.baseBlocks
      while (
        (block + 1) * BLOCK < end &&
        (inode.map.get(block + 1) !== ABSENT) === local &&
        (!local && block + 1 < inode.baseBlocks) === missing
      ) {
        block++
      }
      const runEnd = Math.min((block + 1) * BLOCK, end)
      if (local) this.#readLocal(inode, buffer, at - position, at, runEnd - at)
      else {
        buffer.fill(0, at - position, runEnd - position)
        if (missing) {
          copyFromPieces(pieces, buffer, at - position, at, Math.min(runEnd, inode.baseSize))
        }
      }
      at = runEnd
    }
  }

  #readLocal(inode: Inode, buffer: Buffer, offset: number, position: number, length: number): void {
    try {
      const got = this.#to.files.read(inode, buffer, offset, length, position)
      if (got < length) throw new Error(`the local file of inode ${inode.ino} ends at ${position + got}`)
    } catch (cause) {
      throw new FileSystemError('EIO', 'the write cache cannot be read', { cause })
    }
  }
}

function copyFromPieces(
  pieces: readonly Piece[],
  buffer: Buffer,
  offset: number,
  position: number,
  end: number,
): void {
  for (let at = position; at < end; ) {
    const block = Math.floor(at / BLOCK)
    const piece = pieces.find(({ first, last }) => first <= block && block <= last)
    if (piece === undefined) throw new FileSystemError('EIO', `block ${block} was not fetched`)
    const start = piece.first * BLOCK
    const stop = Math.min(end, start + piece.data.length)
    if (stop <= at) throw new FileSystemError('EIO', `block ${block} was fetched in part only`)
    piece.data.copy(buffer, offset + at - position, at - start, stop - start)
    at = stop
  }
}
