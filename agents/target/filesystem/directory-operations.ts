/**
 * The operations on names: POSIX's rules for making, linking, renaming and removing. What a name leads to is
 * namespace.ts's, what is durable is durability.ts's.
 */
import { type BaseTree, ROOT, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './base-tree.ts'
import type { Durability } from './durability.ts'
import {
  type Caller,
  type DirectoryEntry,
  type FileSystem,
  FileSystemError,
  type Ino,
} from './file-system.ts'
import type { Inode } from './inode.ts'
import type { Inodes } from './inodes.ts'
import type { Namespace } from './namespace.ts'
import type { WalDirectory } from './wal-directory.ts'

export interface DirectoryOperationsDependencies {
  readonly base: BaseTree
  readonly names: Namespace
  readonly inodes: Inodes
  readonly durability: Durability
  readonly wal: WalDirectory
  /** The directory `wal/`. */
  readonly walIno: Ino
  /** Seconds since the epoch. */
  readonly now: () => number
}

type Operations = Pick<
  FileSystem,
  'lookup' | 'readlink' | 'mkdir' | 'symlink' | 'link' | 'unlink' | 'rmdir' | 'rename' | 'readdir'
>

export interface DirectoryOperations extends Operations {
  /** The inode of a name in a directory where names may change, 0 for none. @throws FileSystemError ENOTDIR | EROFS */
  existing(parent: Ino, name: string): Ino
  /** Makes an inode with a name, referenced once by the kernel. @throws FileSystemError EEXIST and as `existing` */
  make(parent: Ino, name: string, mode: number): Inode
}

const MAX_NAME_BYTES = 255

export function createDirectoryOperations(
  dependencies: DirectoryOperationsDependencies,
): DirectoryOperations {
  const { base, names, inodes, durability, wal, walIno, now } = dependencies

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

  function requireFixedName(parent: Ino, ino: Ino): void {
    if (parent === ROOT && base.has(ino)) throw new FileSystemError('EBUSY')
  }

  return {
    existing(parent, name) {
      writable(parent)
      return names.lookup(parent, name)
    },

    make,

    lookup(parent, name) {
      if (parent === walIno) return wal.lookup(name)
      const attributes = inodes.attributes(find(parent, name))
      inodes.remember(attributes.ino)
      return attributes
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
  }
}
