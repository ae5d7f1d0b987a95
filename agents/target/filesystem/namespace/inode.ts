/** One inode that differs from the base tree or is in use: its attributes, its block map and its local file. */
import { BLOCK, type BlockMap } from '../contents/block-map.ts'
import type { AttributesRow } from '../durability/journal.ts'
import type { Attributes, Ino } from '../file-system.ts'
import type { ReadStream } from '../reads/read-ahead.ts'
import { S_IFDIR, S_IFMT } from '../tree/base-tree.ts'

export class Inode {
  readonly ino: Ino
  mode = 0
  nlink = 1
  uid = 0
  gid = 0
  /** Device number. */
  rdev = 0
  /** Nanoseconds since the epoch. */
  atime = 0n
  mtime = 0n
  ctime = 0n
  /** Target of a symbolic link. */
  target: string | undefined
  /** Bytes; of a symbolic link the length of its target. */
  size = 0
  /** Bytes from the start that come from the repository where no local block replaces them. Never grows. */
  baseSize = 0
  map: BlockMap

  /** Descriptor of the local file, or -1. */
  fd = -1
  /** The local file was used again since it was opened or last skipped when descriptors were closed. */
  recent = false
  /** Bytes of the local file, as far as they were written in this run or count as changed. */
  localEnd = 0
  /** Operations that use it across a wait; meanwhile `fd` is not closed and the inode not dropped. */
  pins = 0
  /** Concurrent readers of the file, each with its own read-ahead. */
  readonly streams: ReadStream[] = []
  /** Freed: it has neither name nor reference. */
  freed = false

  /** Local data was written since the last sync of the local file. */
  dataDirty = false
  /** Size or changed blocks differ from the journal, so a sync must write them. */
  essential = false
  /** The local file may be longer than the contents; it is truncated after the next commit. */
  trim = false
  /** Local bytes between the size and the end of its block are known to be zero. */
  tailClean = false
  /** Number of failed syncs; each sync that was waiting at the time must report it. */
  syncFailures = 0
  /** Written data may be lost, and no fsync has reported that yet. */
  lossUnreported = false
  /** The last sync in progress; syncs of one file run one after another. */
  syncing: Promise<void> | undefined

  /** Writes to it are never refused for lack of space. */
  vital = false

  /** It has rows in the journal, or will have. */
  differs = false

  /** Cached count of changed blocks below the backup's end, for a version of the map: counting a large file is slow. */
  #overlap = 0
  #overlapVersion = -1
  #overlapEnd = 0

  constructor(ino: Ino, map: BlockMap) {
    this.ino = ino
    this.map = map
  }

  /** Blocks below this number may have content in the repository. */
  get baseBlocks(): number {
    return Math.ceil(this.baseSize / BLOCK)
  }

  row(): AttributesRow {
    const { ino, mode, nlink, uid, gid, rdev, atime, mtime, ctime, target } = this
    return { ino, mode, nlink, uid, gid, rdev, atime, mtime, ctime, target: target ?? null }
  }

  attributes(): Attributes {
    return {
      ino: this.ino,
      mode: this.mode,
      nlink: this.nlink,
      uid: this.uid,
      gid: this.gid,
      size: this.size,
      allocated: this.#allocatedBlocks() * BLOCK,
      rdev: this.rdev,
      atime: this.atime,
      mtime: this.mtime,
      ctime: this.ctime,
    }
  }

  /** Blocks still in the repository count as allocated: tools treat a file without blocks as one hole. */
  #allocatedBlocks(): number {
    const { baseBlocks, map } = this
    if (map.changed === 0 || baseBlocks === 0) return baseBlocks + map.changed
    if (this.#overlapVersion !== map.version || this.#overlapEnd !== baseBlocks) {
      this.#overlapVersion = map.version
      this.#overlapEnd = baseBlocks
      this.#overlap = map.countChanged(0, baseBlocks - 1)
    }
    return baseBlocks + map.changed - this.#overlap
  }
}

export const isDirectory = ({ mode }: Inode): boolean => (mode & S_IFMT) === S_IFDIR
