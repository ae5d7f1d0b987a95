/** Ranges of files as wholes: making room, holes and zeros in them, and finding what is data and what is a hole. */

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

/** Written in one go. */
const ZEROS = Buffer.alloc(1024 * 1024)
const ZERO_BLOCKS = ZEROS.length / BLOCK
/** Bytes of zeros after which others have their turn. */
const TURN = 32 * 1024 * 1024

export class FileRanges {
  readonly #to: FileRangesDependencies

  constructor(dependencies: FileRangesDependencies) {
    this.#to = dependencies
  }

  /**
   * As `FileSystem.fallocate`. Room is made for what is nowhere yet: what the backup has takes its room when it is
   * changed. A hole gives its room back to the quota, and to the disk when the file is cut or removed.
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

  /** Puts zeros into the blocks from `first` to below `end` that are nowhere. */
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
    // Nothing is behind the end of the file but room that was made there.
    const stop = end >= inode.size ? Math.ceil(Math.max(end, inode.size) / BLOCK) * BLOCK : end
    const first = Math.ceil(position / BLOCK)
    const last = Math.floor(stop / BLOCK) - 1
    if (first > last) return this.#zero(inode, position, stop)
    await this.#zero(inode, position, first * BLOCK)
    await this.#zero(inode, (last + 1) * BLOCK, stop)
    if (last + 1 < inode.baseBlocks) {
      // The backup goes on behind the hole, so zeros must hide it.
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

  /** Writes zeros over what is not a hole, up to the end of the file. */
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

  /** Lets others in, and the disk catch up. */
  async #yield(inode: Inode): Promise<void> {
    try {
      await this.#to.files.sync(inode)
    } catch (error) {
      throw localError(error)
    }
  }
}
