/**
 * The mounted file system: names, handles and POSIX's rules over the base tree and the write cache. What bytes are is
 * file-contents.ts's, what is durable is durability.ts's; how requests arrive is a driver's.
 */
import { constants } from 'node:fs'
import type { Logger } from 'pino'
import { type BaseTree, ROOT, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './base-tree.ts'
import { BLOCK } from './block-map.ts'
import { DataFiles } from './data-files.ts'
import { DEFAULT_INTERVALS, Durability, type DurabilityIntervals } from './durability.ts'
import { FileContents } from './file-contents.ts'
import {
  type AttributeChanges,
  type Attributes,
  type Caller,
  type DirectoryEntry,
  type FileSystem,
  FileSystemError,
  type Handle,
  type Ino,
} from './file-system.ts'
import type { Inode } from './inode.ts'
import { Inodes } from './inodes.ts'
import { openJournal } from './journal.ts'
import { Namespace } from './namespace.ts'
import { type BlockSource, newReadStream, ReadPath, type ReadStream } from './read-path.ts'
import { Space, type SpaceLimits } from './space.ts'
import { WalDirectory, type WalSource } from './wal-directory.ts'

export interface EngineOptions {
  readonly tree: BaseTree
  /** The write cache: a directory that only this engine uses; made when missing. */
  readonly cachePath: string
  readonly source: BlockSource
  /** None: `wal/` is empty. */
  readonly wal?: WalSource
  /** To whom everything belongs. */
  readonly owner: { readonly uid: number; readonly gid: number }
  readonly limits: SpaceLimits
  readonly logger: Logger
  /** Milliseconds since the epoch. */
  readonly clock?: () => number
  /** Milliseconds that a read may wait for the repository before it fails with EIO. */
  readonly deadlineMs?: number
  readonly intervals?: DurabilityIntervals
}

export interface EngineStatistics {
  /** Bytes that came from the repository, over all runs, as far as they were kept. */
  readonly fetchedBytes: number
  /** Bytes of the backup. */
  readonly totalBytes: number
  /** Bytes held locally. */
  readonly cacheBytes: number
  readonly changedBytes: number
  /** Reads of the repository in this run. */
  readonly sourceReads: number
  /** The last failure to read the repository. */
  readonly lastError: string | undefined
}

export interface Engine extends FileSystem {
  statistics(): EngineStatistics
  /** Makes everything durable. */
  flush(): Promise<void>
  /** Makes everything durable and closes the write cache. */
  close(): Promise<void>
  /** Closes the write cache as it is, as a crash would leave it. */
  abandon(): void
}

interface OpenFile {
  readonly ino: Ino
  /** None for a WAL file. */
  readonly inode: Inode | undefined
  readonly stream: ReadStream
}

const MAX_NAME_BYTES = 255
const MAX_OPEN_LOCAL_FILES = 1000
const { O_ACCMODE, O_EXCL, O_RDONLY, O_TRUNC } = { ...constants, O_ACCMODE: 3 }

/** Opens a write cache over a published tree, with everything that was durable in it. */
export function createEngine(options: EngineOptions): Engine {
  const { tree: base, owner, logger, cachePath } = options
  const clock = options.clock ?? Date.now
  const deadlineMs = options.deadlineMs ?? 120_000
  const now = () => clock() / 1000

  const files = new DataFiles(`${cachePath}/files`, MAX_OPEN_LOCAL_FILES)
  const journal = openJournal(`${cachePath}/journal.sqlite`)
  const space = new Space(cachePath, options.limits)
  const names = new Namespace(base, journal.entries())
  const durability = new Durability({
    base,
    files,
    journal,
    logger,
    entry: (parent, name) => names.lookup(parent, name),
    intervals: options.intervals ?? DEFAULT_INTERVALS,
  })
  const inodes = new Inodes({ base, journal, files, owner, onFree })
  const readPath = new ReadPath({
    base,
    source: options.source,
    files,
    space,
    logger,
    deadlineMs,
    onKept: (inode) => durability.contentsChanged(inode),
  })
  const contents = new FileContents({ files, readPath, space, durability, now })
  const walIno = base.children(ROOT).get('wal') ?? 0
  const wal = new WalDirectory({ source: options.wal, owner, mtime: now(), logger, deadlineMs })
  const handles = new Map<Handle, OpenFile>()
  let nextHandle: Handle = 1

  space.changedBytes = inodes.changedBefore * BLOCK
  for (const { parent, ino } of journal.entries()) {
    if (ino !== 0 && inodes.isDirectory(ino)) names.noteParent(ino, parent)
  }
  for (const orphan of inodes.orphans()) inodes.freeIfUnused(orphan)

  function onFree(inode: Inode): void {
    space.give(inode.map.changed)
    files.release(inode)
    durability.freed(inode)
    if ((inode.mode & S_IFMT) === S_IFDIR) names.forget(inode.ino)
  }

  /** The inode of a name. @throws FileSystemError ENOENT */
  function find(parent: Ino, name: string): Ino {
    requireDirectory(parent)
    const ino = names.lookup(parent, name)
    if (ino === 0) throw new FileSystemError('ENOENT')
    return ino
  }

  function requireDirectory(ino: Ino): void {
    if (!inodes.isDirectory(ino))
      throw new FileSystemError(wal.has(ino) || inodes.mode(ino) ? 'ENOTDIR' : 'ENOENT')
  }

  /** A directory in which names may change. */
  function writable(parent: Ino): Inode {
    if (parent === walIno || wal.has(parent)) throw new FileSystemError('EROFS')
    requireDirectory(parent)
    const directory = inodes.get(parent)
    if (directory.nlink === 0) throw new FileSystemError('ENOENT')
    return directory
  }

  function requireFree(parent: Ino, name: string): void {
    if (Buffer.byteLength(name) > MAX_NAME_BYTES) throw new FileSystemError('ENAMETOOLONG')
    if (names.lookup(parent, name) !== 0) throw new FileSystemError('EEXIST')
  }

  function touchDirectory(directory: Inode): void {
    directory.mtime = directory.ctime = now()
    durability.attributesChanged(directory)
  }

  function enter(directory: Inode, name: string, inode: Inode): void {
    names.set(directory.ino, name, inode.ino, (inode.mode & S_IFMT) === S_IFDIR)
    durability.entryChanged(directory.ino, name)
    touchDirectory(directory)
  }

  function leave(directory: Inode, name: string): void {
    names.delete(directory.ino, name)
    durability.entryChanged(directory.ino, name)
    touchDirectory(directory)
  }

  function make(parent: Ino, name: string, mode: number): Inode {
    const directory = writable(parent)
    requireFree(parent, name)
    const inode = inodes.create(mode)
    inode.atime = inode.mtime = inode.ctime = now()
    durability.attributesChanged(inode, true)
    enter(directory, name, inode)
    inodes.remember(inode.ino)
    return inode
  }

  /** An inode has lost a name. */
  function loseName(inode: Inode): void {
    inode.nlink = (inode.mode & S_IFMT) === S_IFDIR ? 0 : inode.nlink - 1
    inode.ctime = now()
    durability.attributesChanged(inode, true)
    inodes.freeIfUnused(inode)
  }

  function countSubdirectory(directory: Inode, by: number): void {
    directory.nlink += by
    durability.attributesChanged(directory, true)
  }

  function openHandle(ino: Ino, inode: Inode | undefined): Handle {
    if (inode !== undefined) inode.handles++
    const handle = nextHandle
    do nextHandle = nextHandle === 0x7fffffff ? 1 : nextHandle + 1
    while (handles.has(nextHandle))
    handles.set(handle, { ino, inode, stream: newReadStream() })
    return handle
  }

  function opened(handle: Handle): OpenFile {
    const file = handles.get(handle)
    if (file === undefined) throw new FileSystemError('EBADF')
    return file
  }

  function requireFixedName(parent: Ino, ino: Ino): void {
    if (parent === ROOT && base.has(ino)) throw new FileSystemError('EBUSY')
  }

  return {
    lookup(parent, name) {
      if (parent === walIno) return wal.lookup(name)
      const attributes = inodes.attributes(find(parent, name))
      inodes.remember(attributes.ino)
      return attributes
    },

    getattr(ino) {
      return wal.has(ino) ? wal.getattr(ino) : inodes.attributes(ino)
    },

    setattr(ino: Ino, changes: AttributeChanges): Attributes {
      if (wal.has(ino) || ino === walIno) throw new FileSystemError('EROFS')
      const inode = inodes.get(ino)
      const { mode, uid, gid, size, atime, mtime } = changes
      if (size !== undefined) {
        if ((inode.mode & S_IFMT) !== S_IFREG) throw new FileSystemError('EISDIR')
        contents.resize(inode, size)
      }
      if (mode !== undefined) inode.mode = (inode.mode & S_IFMT) | (mode & 0o7777)
      if (uid !== undefined) inode.uid = uid
      if (gid !== undefined) inode.gid = gid
      inode.ctime = now()
      if (atime !== undefined) inode.atime = atime === 'now' ? inode.ctime : atime
      if (mtime !== undefined) inode.mtime = mtime === 'now' ? inode.ctime : mtime
      durability.attributesChanged(inode, true)
      return inode.attributes()
    },

    readlink(ino) {
      const inode = wal.has(ino) ? undefined : inodes.get(ino)
      if (inode?.target === undefined) throw new FileSystemError('EINVAL')
      return inode.target
    },

    mkdir(parent, name, mode, _caller: Caller) {
      const inode = make(parent, name, S_IFDIR | (mode & 0o7777))
      inode.nlink = 2
      countSubdirectory(inodes.get(parent), 1)
      return inode.attributes()
    },

    symlink(parent, name, target, _caller: Caller) {
      const inode = make(parent, name, S_IFLNK | 0o777)
      inode.target = target
      inode.size = Buffer.byteLength(target)
      inode.essential = true
      durability.contentsChanged(inode)
      return inode.attributes()
    },

    link(ino, parent, name) {
      const directory = writable(parent)
      if (wal.has(ino)) throw new FileSystemError('EROFS')
      const inode = inodes.get(ino)
      if ((inode.mode & S_IFMT) === S_IFDIR) throw new FileSystemError('EPERM')
      if (inode.nlink === 0) throw new FileSystemError('ENOENT')
      requireFree(parent, name)
      inode.nlink++
      inode.ctime = now()
      durability.attributesChanged(inode, true)
      enter(directory, name, inode)
      inodes.remember(ino)
      return inode.attributes()
    },

    unlink(parent, name) {
      const directory = writable(parent)
      const ino = find(parent, name)
      if (inodes.isDirectory(ino)) throw new FileSystemError('EISDIR')
      const inode = inodes.get(ino)
      leave(directory, name)
      loseName(inode)
    },

    rmdir(parent, name) {
      const directory = writable(parent)
      const ino = find(parent, name)
      requireFixedName(parent, ino)
      requireDirectory(ino)
      if (!names.isEmpty(ino)) throw new FileSystemError('ENOTEMPTY')
      const inode = inodes.get(ino)
      leave(directory, name)
      countSubdirectory(directory, -1)
      loseName(inode)
    },

    rename(parent, name, newParent, newName) {
      const from = writable(parent)
      const to = writable(newParent)
      const ino = find(parent, name)
      requireFixedName(parent, ino)
      const moved = inodes.get(ino)
      const isDirectory = (moved.mode & S_IFMT) === S_IFDIR
      if (isDirectory && names.isWithin(newParent, ino)) throw new FileSystemError('EINVAL')
      if (Buffer.byteLength(newName) > MAX_NAME_BYTES) throw new FileSystemError('ENAMETOOLONG')
      const replacedIno = names.lookup(newParent, newName)
      if (replacedIno === ino) return
      const replaced = replacedIno === 0 ? undefined : inodes.get(replacedIno)
      if (replaced !== undefined) {
        requireFixedName(newParent, replacedIno)
        const replacesDirectory = (replaced.mode & S_IFMT) === S_IFDIR
        if (isDirectory && !replacesDirectory) throw new FileSystemError('ENOTDIR')
        if (!isDirectory && replacesDirectory) throw new FileSystemError('EISDIR')
        if (replacesDirectory && !names.isEmpty(replacedIno)) throw new FileSystemError('ENOTEMPTY')
      }
      leave(from, name)
      enter(to, newName, moved)
      moved.ctime = now()
      durability.attributesChanged(moved)
      if (isDirectory) {
        countSubdirectory(from, -1)
        if (replaced === undefined) countSubdirectory(to, 1)
      }
      if (replaced !== undefined) {
        loseName(replaced)
        durability.syncSoon(moved)
      }
    },

    readdir(ino): DirectoryEntry[] {
      requireDirectory(ino)
      if (ino === walIno) return wal.list().map(({ name, ino: file }) => ({ name, ino: file, type: S_IFREG }))
      return Array.from(names.entries(ino), ([name, child]) => ({
        name,
        ino: child,
        type: inodes.mode(child) & S_IFMT,
      }))
    },

    open(ino, flags) {
      const writes = (flags & O_ACCMODE) !== O_RDONLY
      if (wal.has(ino)) {
        if (writes) throw new FileSystemError('EROFS')
        return openHandle(ino, undefined)
      }
      const inode = inodes.get(ino)
      if ((inode.mode & S_IFMT) === S_IFDIR && writes) throw new FileSystemError('EISDIR')
      if ((inode.mode & S_IFMT) === S_IFLNK) throw new FileSystemError('ELOOP')
      if ((flags & O_TRUNC) !== 0 && writes) contents.resize(inode, 0)
      return openHandle(ino, inode)
    },

    create(parent, name, mode, flags, _caller) {
      if (parent === walIno) throw new FileSystemError('EROFS')
      requireDirectory(parent)
      const existing = names.lookup(parent, name)
      if (existing !== 0) {
        if ((flags & O_EXCL) !== 0) throw new FileSystemError('EEXIST')
        const handle = this.open(existing, flags)
        inodes.remember(existing)
        if (typeof handle !== 'number')
          return handle.then((h) => ({ attributes: this.getattr(existing), handle: h }))
        return { attributes: this.getattr(existing), handle }
      }
      const inode = make(parent, name, S_IFREG | (mode & 0o7777))
      return { attributes: inode.attributes(), handle: openHandle(inode.ino, inode) }
    },

    read(handle, buffer, length, position) {
      const { ino, inode, stream } = opened(handle)
      if (inode === undefined) return wal.read(ino, buffer, length, position)
      return contents.read(inode, stream, buffer, length, position)
    },

    write(handle, buffer, length, position) {
      const { inode } = opened(handle)
      if (inode === undefined) throw new FileSystemError('EROFS')
      return contents.write(inode, buffer, length, position)
    },

    async fsync(handle) {
      const { inode } = opened(handle)
      if (inode !== undefined) await durability.syncFile(inode)
    },

    fsyncdir: () => durability.syncNames(),

    release(handle) {
      const { inode } = opened(handle)
      handles.delete(handle)
      if (inode === undefined) return
      inode.handles--
      inodes.freeIfUnused(inode)
    },

    forget(ino, count) {
      if (!wal.has(ino)) inodes.forget(ino, count)
    },

    statfs: () => space.statistics(),

    statistics() {
      return {
        fetchedBytes: inodes.fetchedBefore * BLOCK + readPath.fetchedBytes,
        totalBytes: base.totalBytes,
        cacheBytes: inodes.fetchedBefore * BLOCK + readPath.fetchedBytes + space.changedBytes,
        changedBytes: space.changedBytes,
        sourceReads: readPath.reads,
        lastError: readPath.lastError,
      }
    },

    flush: () => durability.syncAll(),

    async close() {
      await durability.stop()
      await durability.syncAll()
      journal.close()
      files.close()
    },

    abandon() {
      durability.stop().catch(() => undefined)
      journal.close()
      files.close()
    },
  }
}
