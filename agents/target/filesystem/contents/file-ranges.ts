/** Operations on ranges of files: allocating, punching holes, zeroing, and finding data and holes. */

import type { Durability } from '../durability/durability.ts'
import { type Fallocate, FileSystemError } from '../file-system.ts'
import type { Inode } from '../namespace/inode.ts'
import type { Space } from '../space/space.ts'
import { BLOCK } from './block-map.ts'
import type { DataFiles } from './data-files.ts'
import type { FileContents } from './file-contents.ts'
import { localError } from './local-error.ts'

export interface FileRangesDependencies {
  readonly contents: FileContents
  readonly files: DataFiles
  readonly space: Space
  readonly durability: Durability
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint
}

/** Written at once. */
const ZEROS = Buffer.alloc(1024 * 1024)
const ZERO_BLOCKS = ZEROS.length / BLOCK
/** Bytes of zeros after which other requests are served. */
const TURN = 32 * 1024 * 1024

export class FileRanges {
  readonly #to: FileRangesDependencies

  constructor(dependencies: FileRangesDependencies) {
    this.#to = dependencies
  }

  /**
   * As `FileSystem.fallocate`. Allocates only blocks that exist neither locally nor in the backup: those of the backup use
   * space when they are changed. A hole frees quota at once, and disk space when the file is truncated or removed.
   * @throws FileSystemError ENOSPC | EIO
   */
  async fallocate(
    inode: Inode,
    { what, keepSize }: Fallocate,
    position: number,
    length: number,
  ): Promise<void> {
    const end = position + length
    inode.pins++
    try {
      if (what === 'punch-hole') await this.#punch(inode, position, end)
      else {
        if (what === 'zero-range') await this.#zero(inode, position, end)
        await this.#allocate(inode, Math.floor(position / BLOCK), Math.ceil(end / BLOCK))
        if (!keepSize && end > inode.size) this.#to.contents.resize(inode, end)
      }
      inode.mtime = inode.ctime = this.#to.now()
      this.#to.durability.attributesChanged(inode)
    } finally {
      inode.pins--
    }
  }

  /** As `FileSystem.seek`; blocks of the backup are data. */
  seek(inode: Inode, position: number, to: 'data' | 'hole'): number {
    if (position >= inode.size) throw new FileSystemError('ENXIO')
    const { baseBlocks, map, size } = inode
    const block = Math.floor(position / BLOCK)
    if (to === 'hole') {
      const hole = map.nextUnchanged(Math.max(block, baseBlocks))
      return Math.min(Math.max(position, hole * BLOCK), size)
    }
    const data = block < baseBlocks ? block : map.nextChanged(block)
    if (data < 0 || data * BLOCK >= size) throw new FileSystemError('ENXIO')
    return Math.max(position, data * BLOCK)
  }

  /** Fills with zeros those blocks from `first` to below `end` that exist nowhere yet. */
  async #allocate(inode: Inode, first: number, end: number): Promise<void> {
    let turn = 0
    for (let at = inode.map.nextUnchanged(Math.max(first, inode.baseBlocks)); at < end; ) {
      const held = inode.map.nextChanged(at)
      const runEnd = Math.min(at + ZERO_BLOCKS, end, held < 0 ? end : held)
      this.#fill(inode, at, runEnd)
      turn += (runEnd - at) * BLOCK
      if (turn >= TURN) {
        turn = 0
        await this.#yield(inode)
      }
      at = inode.map.nextUnchanged(Math.max(runEnd, inode.baseBlocks))
    }
  }

  #fill(inode: Inode, first: number, end: number): void {
    const { durability, files, space } = this.#to
    space.allocate(end - first, 'allocation')
    try {
      files.write(inode, ZEROS, (end - first) * BLOCK, first * BLOCK)
    } catch (error) {
      space.release(end - first)
      throw localError(error)
    }
    inode.map.change(first, end - 1)
    inode.dataDirty = true
    inode.essential = true
    durability.contentsChanged(inode)
  }

  async #punch(inode: Inode, position: number, end: number): Promise<void> {
    // Behind the end of the file there are only allocated blocks.
    const stop = end >= inode.size ? Math.ceil(Math.max(end, inode.size) / BLOCK) * BLOCK : end
    const first = Math.ceil(position / BLOCK)
    const last = Math.floor(stop / BLOCK) - 1
    if (first > last) return this.#zero(inode, position, stop)
    await this.#zero(inode, position, first * BLOCK)
    await this.#zero(inode, (last + 1) * BLOCK, stop)
    if (last + 1 < inode.baseBlocks) {
      // Blocks of the backup follow the hole, so `baseSize` cannot be lowered: write zeros instead.
      await this.#zero(inode, first * BLOCK, (last + 1) * BLOCK)
      return
    }
    const { durability, space } = this.#to
    const before = inode.map.changed
    inode.map.clear(first, last)
    space.release(before - inode.map.changed)
    inode.baseSize = Math.min(inode.baseSize, first * BLOCK)
    inode.essential = true
    durability.contentsChanged(inode)
  }

  /** Writes zeros over everything that is not a hole, up to the end of the file. */
  async #zero(inode: Inode, position: number, end: number): Promise<void> {
    const { contents } = this.#to
    let turn = 0
    for (let at = position; at < Math.min(end, inode.size); ) {
      const block = Math.floor(at / BLOCK)
      const data = block < inode.baseBlocks ? block : inode.map.nextChanged(block)
      if (data < 0) return
      at = Math.max(at, data * BLOCK)
      const length = Math.min(end, inode.size, at + ZEROS.length - (at % BLOCK)) - at
      if (length <= 0) return
      await contents.write(inode, ZEROS, length, at)
      at += length
      turn += length
      if (turn >= TURN) {
        turn = 0
        await this.#yield(inode)
      }
    }
  }

  /** Lets other requests run, and the disk catch up. */
  async #yield(inode: Inode): Promise<void> {
    try {
      await this.#to.files.sync(inode)
    } catch (error) {
      throw localError(error)
    }
  }
}
