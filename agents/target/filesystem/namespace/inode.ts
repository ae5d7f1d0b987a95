/** One inode that differs from the base tree, or is used: its attributes, its block map and its place in local storage. */
import { BLOCK, type BlockMap } from '../contents/block-map.ts'
import type { AttributesRow } from '../durability/journal.ts'
import type { Attributes, Ino } from '../file-system.ts'
import type { ReadStream } from '../reads/read-ahead.ts'

export class Inode {
  readonly ino: Ino
  mode = 0
  nlink = 1
  uid = 0
  gid = 0
  /** Of a device. */
  rdev = 0
  /** Nanoseconds since the epoch. */
  atime = 0n
  mtime = 0n
  ctime = 0n
  /** Of a symbolic link. */
  target: string | undefined
  /** Bytes; of a symbolic link those of its target. */
  size = 0
  /** Bytes from the start that the repository still answers for, where no local block does. Never grows. */
  baseSize = 0
  map: BlockMap

  /** Descriptor of the local file, or -1. */
  fd = -1
  /** The local file was used again since it was opened, or passed over when others were closed. */
  recent = false
  /** Bytes of the local file, as far as they were written in this run or count as changed. */
  localEnd = 0
  /** Uses across a wait; neither `fd` is closed nor the inode dropped meanwhile. */
  pins = 0
  /** Readers of the file that were told apart, to read ahead of each. */
  readonly streams: ReadStream[] = []
  /** Gone for good: no name, no reference. */
  freed = false

  /** Local data was written since the last sync of the local file. */
  dataDirty = false
  /** Size or changed blocks differ from the journal, so a sync must write them. */
  essential = false
  /** The local file may be longer than the contents, and may be cut once that is committed. */
  trim = false
  /** Local bytes between the size and the end of its block are known to be zero. */
  tailClean = false
  /** Times that contents could not be made durable; whoever waited for it then must hear of it. */
  syncFailures = 0
  /** Written data may be lost and nobody who asked to have it synced knows yet. */
  lossUnreported = false
  /** The last sync under way; syncs of one file follow each other. */
  syncing: Promise<void> | undefined

  /** What is written to it is never refused for want of room. */
  vital = false

  /** Has rows in the journal, or will have. */
  differs = false

  /** Changed blocks among those of the backup, of a version of the map; counting takes a while in a large file. */
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
  /** What is still in the repository counts as allocated: tools take a file without blocks for one hole. */
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
