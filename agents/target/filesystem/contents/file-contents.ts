/**
 * The bytes of files: which come from the local file, which from the backup and which are zero. Synchronous unless a
 * block is missing. Knows no names; durability.ts makes its writes durable.
 */

import type { Durability } from '../durability/durability.ts'
import { ANSWERED_BY_OTHER_THREAD, FileSystemError, type MaybePromise } from '../file-system.ts'
import type { Inode } from '../namespace/inode.ts'
import type { Requester } from '../reads/direct-reads.ts'
import type { Piece } from '../reads/pending-reads.ts'
import type { ReadPath } from '../reads/read-path.ts'
import type { Space } from '../space/space.ts'
import { useOfWrite } from '../space/space-use.ts'
import { BLOCK } from './block-map.ts'
import type { DataFiles } from './data-files.ts'
import { localError } from './local-error.ts'

export interface FileContentsDependencies {
  readonly files: DataFiles
  readonly readPath: ReadPath
  readonly space: Space
  readonly durability: Durability
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint
}

/** The old content of a block, written in full before a write changes part of it. */
interface Seed {
  readonly block: number
  readonly data: Buffer
}

export class FileContents {
  /** Description of the last failure to read the write cache. */
  lastError: string | undefined
  readonly #to: FileContentsDependencies
  /** Writes that wait for a missing block. Never reject. */
  readonly #waiting = new Set<Promise<void>>()

  constructor(dependencies: FileContentsDependencies) {
    this.#to = dependencies
  }

  /** As `FileSystem.read`. */
  read(
    inode: Inode,
    buffer: Buffer,
    length: number,
    position: number,
    requester?: Requester,
  ): MaybePromise<number> {
    const end = Math.min(position + length, inode.size)
    if (position >= end) return 0
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    const { readPath } = this.#to
    if (!readPath.isMissing(inode, first, last) && this.#copy(inode, buffer, position, end, [])) {
      readPath.noteRead(inode, position, end)
      return end - position
    }
    const isEnvironmental =
      requester !== undefined && readPath.sendDirectRead(inode, position, end, requester)
    const reading = isEnvironmental
      ? ANSWERED_BY_OTHER_THREAD
      : this.#readMissing(inode, buffer, position, end)
    // Afterwards, so that this read is requested before the read-ahead.
    readPath.noteRead(inode, position, end)
    return reading
  }

  /** As `FileSystem.write`. @throws FileSystemError ENOSPC | EIO */
  write(
    inode: Inode,
    buffer: Buffer,
    length: number,
    position: number,
    accepted = false,
  ): MaybePromise<number> {
    if (length === 0) return 0
    const seeds = this.#seeds(inode, position, position + length, [])
    if (seeds !== undefined) return this.#apply(inode, buffer, length, position, accepted, seeds)
    const writing = this.#writeMissing(inode, buffer, length, position, accepted)
    const done = () => void this.#waiting.delete(waiting)
    const waiting = writing.then(done, done)
    this.#waiting.add(waiting)
    return writing
  }

  /** Resolves when every write received before has been applied, or has failed. */
  async written(): Promise<void> {
    await Promise.all(this.#waiting)
  }

  /** Truncates or extends a file; the extension reads as zeros. */
  resize(inode: Inode, size: number): void {
    const { durability, now, space } = this.#to
    if (size < inode.size) {
      const before = inode.map.changed
      inode.map.clearFrom(Math.ceil(size / BLOCK))
      space.release(before - inode.map.changed)
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

  async #readMissing(inode: Inode, buffer: Buffer, position: number, end: number): Promise<number> {
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    inode.pins++
    try {
      for (;;) {
        const pieces = await this.#to.readPath.fetch(inode, first, last)
        // The file may have been truncated meanwhile.
        const now = Math.min(end, inode.size)
        if (position >= now) return 0
        if (this.#copy(inode, buffer, position, now, pieces)) return now - position
      }
    } finally {
      inode.pins--
    }
  }

  async #writeMissing(
    inode: Inode,
    buffer: Buffer,
    length: number,
    position: number,
    accepted: boolean,
  ): Promise<number> {
    const { readPath } = this.#to
    const end = position + length
    inode.pins++
    try {
      for (;;) {
        const blocks = this.#edges(inode, position, end).filter((block) =>
          this.#needsBase(inode, block, position, end),
        )
        const pieces = await Promise.all(blocks.map((block) => readPath.fetch(inode, block, block)))
        const seeds = this.#seeds(inode, position, end, pieces.flat())
        if (seeds !== undefined) return this.#apply(inode, buffer, length, position, accepted, seeds)
      }
    } finally {
      inode.pins--
    }
  }

  #apply(
    inode: Inode,
    buffer: Buffer,
    length: number,
    position: number,
    accepted: boolean,
    seeds: readonly Seed[],
  ): number {
    const { durability, files, now, space } = this.#to
    const end = position + length
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    const added = last - first + 1 - inode.map.countChanged(first, last)
    space.allocate(added, useOfWrite(end, inode.size, accepted || inode.vital))
    try {
      // Also when the file does not grow: a crash may restore the old size, and the block must then be valid as a whole.
      if (end > inode.size || last === Math.floor(inode.size / BLOCK)) this.#cleanTail(inode)
      // A block enters the map only when written in full, so stale bytes of the local file can never show.
      for (const { block, data } of seeds) files.write(inode, data, BLOCK, block * BLOCK)
      files.write(inode, buffer, length, position)
    } catch (error) {
      space.release(added)
      throw localError(error)
    }
    const grown = end > inode.size
    if (grown) inode.size = end
    inode.dataDirty = true
    if (inode.map.change(first, last) || grown) inode.essential = true
    durability.contentsChanged(inode)
    // A kernel that caches writes maintains their times and sends them separately.
    if (accepted) return length
    inode.mtime = inode.ctime = now()
    durability.attributesChanged(inode)
    return length
  }

  /** Unchanged blocks that a write covers only in part. */
  #edges(inode: Inode, position: number, end: number): number[] {
    const first = Math.floor(position / BLOCK)
    const last = Math.floor((end - 1) / BLOCK)
    const edges: number[] = []
    if (position % BLOCK !== 0 && !inode.map.isChanged(first)) edges.push(first)
    if (end % BLOCK !== 0 && !inode.map.isChanged(last) && edges[0] !== last) edges.push(last)
    return edges
  }

  /** Whether bytes of the block outside the write come from the repository. */
  #needsBase(inode: Inode, block: number, position: number, end: number): boolean {
    if (block >= inode.baseBlocks) return false
    const blockEnd = Math.min((block + 1) * BLOCK, inode.baseSize)
    return position > block * BLOCK || end < blockEnd
  }

  /** The old content of blocks that a write covers in part; undefined when some of it is missing. */
  #seeds(inode: Inode, position: number, end: number, pieces: readonly Piece[]): readonly Seed[] | undefined {
    const seeds: Seed[] = []
    for (const block of this.#edges(inode, position, end)) {
      const data = Buffer.alloc(BLOCK)
      if (this.#needsBase(inode, block, position, end)) {
        const { readPath } = this.#to
        const start = block * BLOCK
        const stop = Math.min(start + BLOCK, inode.baseSize)
        readPath.noteUse(inode, start, stop)
        if (!readPath.copy(inode, start, stop, data, 0, pieces)) return undefined
      }
      seeds.push({ block, data })
    }
    return seeds
  }

  /** Bytes after the end in its block may be left from a longer file; zero them before the file grows. */
  #cleanTail(inode: Inode): void {
    const rest = BLOCK - (inode.size % BLOCK)
    const block = Math.floor(inode.size / BLOCK)
    if (!inode.tailClean && rest < BLOCK && inode.map.isChanged(block)) {
      this.#to.files.write(inode, Buffer.alloc(rest), rest, inode.size)
      inode.dataDirty = true
    }
    inode.tailClean = true
  }

  /** Copies bytes `position` to `end`, in runs of changed or unchanged blocks; false when some are missing. */
  #copy(inode: Inode, buffer: Buffer, position: number, end: number, pieces: readonly Piece[]): boolean {
    const { map } = inode
    let at = position
    while (at < end) {
      let block = Math.floor(at / BLOCK)
      const changed = map.isChanged(block)
      while ((block + 1) * BLOCK < end && map.isChanged(block + 1) === changed) block++
      const runEnd = Math.min((block + 1) * BLOCK, end)
      if (changed) this.#readLocal(inode, buffer, at - position, at, runEnd - at)
      else {
        const baseEnd = Math.max(at, Math.min(runEnd, inode.baseSize))
        if (!this.#to.readPath.copy(inode, at, baseEnd, buffer, at - position, pieces)) return false
        buffer.fill(0, baseEnd - position, runEnd - position)
      }
      at = runEnd
    }
    return true
  }

  #readLocal(inode: Inode, buffer: Buffer, offset: number, position: number, length: number): void {
    try {
      const got = this.#to.files.read(inode, buffer, offset, length, position)
      if (got < length) throw new Error(`the local file of inode ${inode.ino} ends at ${position + got}`)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      this.lastError = `the write cache cannot be read: ${reason}`
      throw new FileSystemError('EIO', this.lastError, { cause })
    }
  }
}
