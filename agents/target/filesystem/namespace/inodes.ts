/**
 * All inodes of the mount: those of the base tree, the journal and this run, loaded on first use. Allocates inode
 * numbers and counts references: an inode with neither name nor reference is freed.
 */

import { BLOCK, BlockMap } from '../contents/block-map.ts'
import type { DataFiles } from '../contents/data-files.ts'
import type { AttributesRow, ContentsRecord, JournalState } from '../durability/journal.ts'
import { type Attributes, FileSystemError, type Ino } from '../file-system.ts'
import { type BaseTree, S_IFDIR, S_IFMT, S_IFREG } from '../tree/base-tree.ts'
import { Inode } from './inode.ts'

export interface InodesDependencies {
  readonly base: BaseTree
  readonly journalState: JournalState
  readonly files: DataFiles
  /** Owner of everything that comes from the backup. */
  readonly owner: { readonly uid: number; readonly gid: number }
  /** Blocks marked as changed in the journal turned out to lie beyond the end of their file. */
  readonly onDropped: (blocks: number) => void
  /** An inode without name and reference is freed. */
  readonly onFree: (inode: Inode) => void
}

export class Inodes {
  /** Changed blocks recorded in the journal at start. */
  readonly changedBefore: number
  readonly #to: InodesDependencies
  readonly #loaded = new Map<Ino, Inode>()
  /** Rows of the journal whose inodes are not loaded yet. */
  readonly #attributes = new Map<Ino, AttributesRow>()
  readonly #contents = new Map<Ino, ContentsRecord>()
  readonly #references = new Map<Ino, number>()
  #next: Ino

  constructor(dependencies: InodesDependencies) {
    this.#to = dependencies
    const { base, files, journalState } = dependencies
    let last = base.count
    for (const row of journalState.attributes) {
      this.#attributes.set(row.ino, row)
      last = Math.max(last, row.ino)
    }
    let changed = 0
    for (const record of journalState.contents) {
      const { row } = record
      this.#contents.set(row.ino, record)
      last = Math.max(last, row.ino)
      changed += row.changed
    }
    this.changedBefore = changed
    this.#next = last + 1
    files.sweep((ino) => this.#contents.has(ino))
  }

  /** Inodes that had no name left when the last run ended; to be freed. */
  *orphans(): IterableIterator<Inode> {
    for (const { ino, nlink } of [...this.#attributes.values()]) if (nlink === 0) yield this.get(ino)
  }

  /** Makes an inode with a number above all that the journal and this run have used. */
  create(mode: number, uid: number, gid: number): Inode {
    const inode = new Inode(this.#next++, new BlockMap())
    inode.mode = mode
    inode.uid = uid
    inode.gid = gid
    inode.tailClean = true
    this.#loaded.set(inode.ino, inode)
    return inode
  }

  /** The inode itself, to be used or changed. @throws FileSystemError ENOENT */
  get(ino: Ino): Inode {
    return this.#loaded.get(ino) ?? this.#load(ino)
  }

  /** Regular files that the kernel may have cached. */
  referencedFiles(): Ino[] {
    return [...this.#references.keys()].filter((ino) => (this.mode(ino) & S_IFMT) === S_IFREG)
  }

  isDirectory(ino: Ino): boolean {
    return (this.mode(ino) & S_IFMT) === S_IFDIR
  }

  mode(ino: Ino): number {
    return (this.#loaded.get(ino) ?? this.#attributes.get(ino))?.mode ?? this.#to.base.mode(ino)
  }

  /** Attributes, without loading an untouched inode. @throws FileSystemError ENOENT */
  attributes(ino: Ino): Attributes {
    const { base, owner } = this.#to
    const loaded = this.#loaded.get(ino)
    if (loaded !== undefined) return loaded.attributes()
    if (!base.has(ino) || this.#attributes.has(ino) || this.#contents.has(ino)) {
      return this.#load(ino).attributes()
    }
    const mtime = base.mtime(ino)
    const link = base.link(ino)
    const size = link === undefined ? base.size(ino) : Buffer.byteLength(link)
    return {
      ino,
      mode: base.mode(ino),
      nlink: base.nlink(ino),
      uid: owner.uid,
      gid: owner.gid,
      size,
      allocated: Math.ceil(size / BLOCK) * BLOCK,
      rdev: 0,
      atime: mtime,
      mtime,
      ctime: mtime,
    }
  }

  /** Takes one more reference. */
  remember(ino: Ino): void {
    this.#references.set(ino, (this.#references.get(ino) ?? 0) + 1)
  }

  forget(ino: Ino, count: number): void {
    const left = (this.#references.get(ino) ?? 0) - count
    if (left > 0) {
      this.#references.set(ino, left)
      return
    }
    this.#references.delete(ino)
    const inode = this.#loaded.get(ino)
    if (inode === undefined) return
    this.freeIfUnused(inode)
    // Unchanged: it can be loaded again from the base tree, and a backup has very many.
    if (!inode.differs && inode.pins === 0) this.#loaded.delete(ino)
  }

  freeIfUnused(inode: Inode): void {
    if (inode.nlink > 0 || inode.freed || this.#references.has(inode.ino)) return
    inode.freed = true
    this.#loaded.delete(inode.ino)
    this.#to.onFree(inode)
  }

  #load(ino: Ino): Inode {
    const { base, owner } = this.#to
    const attributes = this.#attributes.get(ino)
    const contents = this.#contents.get(ino)
    if (!base.has(ino) && attributes === undefined) throw new FileSystemError('ENOENT')
    const inode = new Inode(ino, BlockMap.from(contents?.chunks ?? []))
    if (attributes !== undefined) {
      const { target, ...plain } = attributes
      Object.assign(inode, plain)
      inode.target = target ?? undefined
    } else {
      const mtime = base.mtime(ino)
      Object.assign(inode, owner, { mode: base.mode(ino), nlink: base.nlink(ino) })
      inode.atime = inode.mtime = inode.ctime = mtime
      inode.target = base.link(ino)
    }
    if (contents !== undefined) {
      inode.size = contents.row.size
      this.#dropBehindEnd(inode)
      inode.localEnd = inode.map.end * BLOCK
      inode.baseSize = contents.row.baseSize
    } else if (base.has(ino)) {
      inode.size = inode.baseSize = base.size(ino)
    }
    if (inode.target !== undefined) inode.size = Buffer.byteLength(inode.target)
    inode.differs = attributes !== undefined || contents !== undefined
    this.#attributes.delete(ino)
    this.#contents.delete(ino)
    this.#loaded.set(ino, inode)
    return inode
  }

  /**
   * Blocks allocated beyond the end of a file may hold data if a crash undid the file's growth; they must read as zeros,
   * so they are no longer counted as changed.
   */
  #dropBehindEnd(inode: Inode): void {
    const before = inode.map.changed
    inode.map.clearFrom(Math.ceil(inode.size / BLOCK))
    this.#to.onDropped(before - inode.map.changed)
  }
}
