/**
 * The operations on names: POSIX's rules for making, linking, renaming and removing. Which inode a name refers to is
 * namespace.ts's concern, what is durable durability.ts's.
 */

import type { Durability } from '../durability/durability.ts'
import { type Caller, type FileSystem, FileSystemError, type Ino } from '../file-system.ts'
import { isNeededToConnect } from '../space/space-use.ts'
import { type BaseTree, ROOT, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../tree/base-tree.ts'
import type { WalDirectory } from '../wal/wal-directory.ts'
import { createEntryChanges } from './entry-changes.ts'
import { type Inode, isDirectory } from './inode.ts'
import type { Inodes } from './inodes.ts'
import { createNameChecks } from './name-checks.ts'
import type { Namespace } from './namespace.ts'
import { createRename } from './rename.ts'
import { createTablespaceLinks } from './tablespace-links.ts'

export interface DirectoryOperationsDependencies {
  readonly base: BaseTree
  readonly names: Namespace
  readonly inodes: Inodes
  readonly durability: Durability
  readonly wal: WalDirectory
  /** The directory `wal/`. */
  readonly walIno: Ino
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint
}

export type DirectoryOperations = Pick<
  FileSystem,
  | 'lookup'
  | 'readlink'
  | 'mknod'
  | 'mkdir'
  | 'symlink'
  | 'link'
  | 'unlink'
  | 'rmdir'
  | 'rename'
  | 'readdir'
  | 'parent'
>

/** Source: PATH_MAX of linux/limits.h, which includes the terminating NUL. */
const MAX_TARGET_BYTES = 4095
/** As on ext4; subdirectories are not limited. Source: EXT4_LINK_MAX of fs/ext4/ext4.h. */
const MAX_LINKS = 65_000
const S_ISGID = 0o2000

export function createDirectoryOperations(
  dependencies: DirectoryOperationsDependencies,
): DirectoryOperations {
  const { names, inodes, durability, wal, walIno, now } = dependencies
  const tablespaceLinks = createTablespaceLinks(names)
  const checks = createNameChecks({ ...dependencies, tablespaceLinks })
  const changes = createEntryChanges(dependencies)
  // Taken apart here, so that a request calls the functions directly.
  const { find, requireDirectory, writable, requireFree, requireNotFixed } = checks
  const { requireTablespace, requireTargetInside } = checks
  const { addEntry, removeEntry, dropName, countSubdirectory } = changes

  /** Makes an inode with a name and one reference. It inherits the group of a directory with the set-group-ID bit. */
  function createNamed(parent: Ino, name: string, mode: number, caller: Caller): Inode {
    const directory = writable(parent)
    requireFree(parent, name)
    const inherits = (directory.mode & S_ISGID) !== 0
    const inode = inodes.create(mode, caller.uid, inherits ? directory.gid : caller.gid)
    if (inherits && isDirectory(inode)) inode.mode |= S_ISGID
    inode.vital = isNeededToConnect(name)
    inode.atime = inode.mtime = inode.ctime = now()
    durability.attributesChanged(inode, true)
    addEntry(directory, name, inode)
    inodes.remember(inode.ino)
    return inode
  }

  return {
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

    mknod(parent, name, mode, rdev, caller) {
      const type = mode & S_IFMT
      if (type === S_IFDIR || type === S_IFLNK) throw new FileSystemError('EINVAL')
      const inode = createNamed(parent, name, (type === 0 ? S_IFREG : type) | (mode & 0o7777), caller)
      inode.rdev = rdev
      return inode.attributes()
    },

    mkdir(parent, name, mode, caller) {
      const inode = createNamed(parent, name, S_IFDIR | (mode & 0o7777), caller)
      inode.nlink = 2
      countSubdirectory(inodes.get(parent), 1)
      return inode.attributes()
    },

    symlink(parent, name, asked, caller) {
      const target = tablespaceLinks.appliesTo(parent) ? requireTablespace(asked) : asked
      const size = Buffer.byteLength(target)
      if (size > MAX_TARGET_BYTES) throw new FileSystemError('ENAMETOOLONG')
      const inode = createNamed(parent, name, S_IFLNK | 0o777, caller)
      inode.target = target
      inode.size = size
      return inode.attributes()
    },

    link(ino, parent, name) {
      const directory = writable(parent)
      if (wal.has(ino)) throw new FileSystemError('EROFS')
      const inode = inodes.get(ino)
      if (isDirectory(inode)) throw new FileSystemError('EPERM')
      if (inode.nlink === 0) throw new FileSystemError('ENOENT')
      requireFree(parent, name)
      requireTargetInside(parent, inode)
      if (inode.nlink >= MAX_LINKS) throw new FileSystemError('EMLINK')
      inode.nlink++
      inode.ctime = now()
      durability.attributesChanged(inode, true)
      addEntry(directory, name, inode)
      inodes.remember(ino)
      return inode.attributes()
    },

    unlink(parent, name) {
      const directory = writable(parent)
      const ino = find(parent, name)
      if (inodes.isDirectory(ino)) throw new FileSystemError('EISDIR')
      const inode = inodes.get(ino)
      removeEntry(directory, name)
      dropName(inode)
    },

    rmdir(parent, name) {
      const directory = writable(parent)
      const ino = find(parent, name)
      requireNotFixed(parent, ino)
      requireDirectory(ino)
      if (!names.isEmpty(ino)) throw new FileSystemError('ENOTEMPTY')
      const inode = inodes.get(ino)
      removeEntry(directory, name)
      countSubdirectory(directory, -1)
      dropName(inode)
    },

    rename: createRename({ names, inodes, durability, checks, changes }),

    readdir(ino) {
      requireDirectory(ino)
      if (ino === walIno) return wal.list().map(({ name, ino: file }) => ({ name, ino: file, type: S_IFREG }))
      return Array.from(names.entries(ino), ([name, child]) => ({
        name,
        ino: child,
        type: inodes.mode(child) & S_IFMT,
      }))
    },

    parent(ino) {
      requireDirectory(ino)
      return ino === ROOT ? ROOT : names.parent(ino)
    },
  }
}
