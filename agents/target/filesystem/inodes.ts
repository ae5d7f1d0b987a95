/**
 * All inodes of the mount: those of the base tree until something touches them, and those of the journal and of this
 * run. Gives out inode numbers and counts what holds an inode that has lost its names.
 */
import { type BaseTree, S_IFDIR, S_IFMT } from './base-tree.ts'
import { BLOCK, BlockMap } from './block-map.ts'
import type { DataFiles } from './data-files.ts'
import { type Attributes, FileSystemError, type Ino } from './file-system.ts'
import { Inode } from './inode.ts'
import type { AttributesRow, ContentsRow, Journal } from './journal.ts'

export interface InodesDependencies {
  readonly base: BaseTree
  readonly journal: Journal
  readonly files: DataFiles
  readonly owner: { readonly uid: number; readonly gid: number }
  /** An inode without name and use goes away. */
  readonly onFree: (inode: Inode) => void
}

export class Inodes {
  /** Blocks, as the journal had them at start. */
  readonly fetchedBefore: number
  readonly changedBefore: number
  readonly #to: InodesDependencies
  readonly #loaded = new Map<Ino, Inode>()
  /** Rows of the journal that no inode was made of yet. */
  readonly #attributes = new Map<Ino, AttributesRow>()
  readonly #contents = new Map<Ino, ContentsRow>()
  readonly #lookups = new Map<Ino, number>()
  #next: Ino

  constructor(dependencies: InodesDependencies) {
    this.#to = dependencies
    const { base, files, journal } = dependencies
    let last = base.count
    for (const row of journal.attributes()) {
      this.#attributes.set(row.ino, row)
      last = Math.max(last, row.ino)
    }
    let fetched = 0
    let changed = 0
    for (const row of journal.contents()) {
      this.#contents.set(row.ino, row)
      last = Math.max(last, row.ino)
      fetched += row.fetched
      changed += row.changed
    }
    this.fetchedBefore = fetched
    this.changedBefore = changed
    this.#next = last + 1
    files.sweep((ino) => this.#contents.has(ino))
  }

  /** Inodes that had no name left when the last run ended, to be freed. */
  *orphans(): IterableIterator<Inode> {
    for (const { ino, nlink } of [...this.#attributes.values()]) if (nlink === 0) yield this.get(ino)
  }

  /** Makes an inode number. */
  create(mode: number): Inode {
    const inode = new Inode(this.#next++, new BlockMap())
    inode.mode = mode
    inode.tailClean = true
    Object.assign(inode, this.#to.owner)
    this.#loaded.set(inode.ino, inode)
    return inode
  }

  /** The inode itself, to be used or changed. @throws FileSystemError ENOENT */
  get(ino: Ino): Inode {
    return this.#loaded.get(ino) ?? this.#load(ino)
  }

  isDirectory(ino: Ino): boolean {
    return (this.mode(ino) & S_IFMT) === S_IFDIR
  }

  mode(ino: Ino): number {
    return (this.#loaded.get(ino) ?? this.#attributes.get(ino))?.mode ?? this.#to.base.mode(ino)
  }

  /** Attributes, without loading what was never touched. @throws FileSystemError ENOENT */
  attributes(ino: Ino): Attributes {
    const { base, owner } = this.#to
    const loaded = this.#loaded.get(ino)
    if (loaded !== undefined) return loaded.attributes()
    if (!base.has(ino) || this.#attributes.has(ino) || this.#contents.has(ino)) {
      return this.#load(ino).attributes()
    }
    const mtime = base.mtime(ino)
    const size = contentSize(base, ino)
    return {
      ino,
      mode: base.mode(ino),
      nlink: base.nlink(ino),
      uid: owner.uid,
      gid: owner.gid,
      size,
      allocated: Math.ceil(size / BLOCK) * BLOCK,
      atime: mtime,
      mtime,
      ctime: mtime,
    }
  }

  /** The kernel holds one more reference. */
  remember(ino: Ino): void {
    this.#lookups.set(ino, (this.#lookups.get(ino) ?? 0) + 1)
  }

  forget(ino: Ino, count: number): void {
    const left = (this.#lookups.get(ino) ?? 0) - count
    if (left > 0) {
      this.#lookups.set(ino, left)
      return
    }
    this.#lookups.delete(ino)
    const inode = this.#loaded.get(ino)
    if (inode !== undefined) this.freeIfUnused(inode)
  }

  freeIfUnused(inode: Inode): void {
    if (inode.nlink > 0 || inode.handles > 0 || inode.freed || this.#lookups.has(inode.ino)) return
    inode.freed = true
    this.#loaded.delete(inode.ino)
    this.#to.onFree(inode)
  }

  #load(ino: Ino): Inode {
    const { base, journal, owner } = this.#to
    const attributes = this.#attributes.get(ino)
    const contents = this.#contents.get(ino)
    if (!base.has(ino) && attributes === undefined) throw new FileSystemError('ENOENT')
    const inode = new Inode(ino, contents === undefined ? new BlockMap() : BlockMap.from(journal.chunks(ino)))
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
      inode.size = contents.size
      inode.baseSize = contents.baseSize
    } else if (base.has(ino)) {
      inode.size = contentSize(base, ino)
      inode.baseSize = base.size(ino)
    }
    this.#attributes.delete(ino)
    this.#contents.delete(ino)
    this.#loaded.set(ino, inode)
    return inode
  }
}

/** A symbolic link's size is its target's length. */
function contentSize(base: BaseTree, ino: Ino): number {
  const link = base.link(ino)
  return link === undefined ? base.size(ino) : Buffer.byteLength(link)
}
