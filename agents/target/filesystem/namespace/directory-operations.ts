/**
 * The operations on names: POSIX's rules for making, linking, renaming and removing. Which inode a name refers to is
 * namespace.ts's concern, what is durable durability.ts's.
 */

import type { Durability } from '../durability/durability.ts'
import { type Caller, type FileSystem, FileSystemError, type Ino, type RenameMode } from '../file-system.ts'
import { isNeededToConnect } from '../space/space.ts'
import { type BaseTree, ROOT, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../tree/base-tree.ts'
import type { WalDirectory } from '../wal/wal-directory.ts'
import type { Inode } from './inode.ts'
import type { Inodes } from './inodes.ts'
import type { Namespace } from './namespace.ts'
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

const MAX_NAME_BYTES = 255
/** Source: PATH_MAX of linux/limits.h, which includes the terminating NUL. */
const MAX_TARGET_BYTES = 4095
/** As on ext4; subdirectories are not limited. Source: EXT4_LINK_MAX of fs/ext4/ext4.h. */
const MAX_LINKS = 65_000
const S_ISGID = 0o2000

const isDirectory = ({ mode }: Inode) => (mode & S_IFMT) === S_IFDIR

export function createDirectoryOperations(
  dependencies: DirectoryOperationsDependencies,
): DirectoryOperations {
  const { base, names, inodes, durability, wal, walIno, now } = dependencies
  const tablespaceLinks = createTablespaceLinks(names)

  /** The inode of a name. @throws FileSystemError ENOENT | ENOTDIR */
  function find(parent: Ino, name: string): Ino {
    requireDirectory(parent)
    requireName(name)
    const ino = names.lookup(parent, name)
    if (ino === 0) throw new FileSystemError('ENOENT')
    return ino
  }

  function requireDirectory(ino: Ino): void {
    if (!inodes.isDirectory(ino))
      throw new FileSystemError(wal.has(ino) || inodes.mode(ino) ? 'ENOTDIR' : 'ENOENT')
  }

  /** A directory in which entries may change. @throws FileSystemError EROFS | ENOENT | ENOTDIR */
  function writable(parent: Ino): Inode {
    if (parent === walIno || wal.has(parent)) throw new FileSystemError('EROFS')
    requireDirectory(parent)
    const directory = inodes.get(parent)
    if (directory.nlink === 0) throw new FileSystemError('ENOENT')
    return directory
  }

  function requireName(name: string): void {
    // UTF-8 takes at most three bytes per UTF-16 code unit.
    if (name.length * 3 > MAX_NAME_BYTES && Buffer.byteLength(name) > MAX_NAME_BYTES) {
      throw new FileSystemError('ENAMETOOLONG')
    }
  }

  function requireFree(parent: Ino, name: string): void {
    requireName(name)
    if (names.lookup(parent, name) !== 0) throw new FileSystemError('EEXIST')
  }

  function touchDirectory(directory: Inode): void {
    directory.mtime = directory.ctime = now()
    durability.attributesChanged(directory)
  }

  function enter(directory: Inode, name: string, inode: Inode): void {
    names.set(directory.ino, name, inode.ino, isDirectory(inode))
    durability.entryChanged(directory.ino, name)
    touchDirectory(directory)
  }

  function leave(directory: Inode, name: string): void {
    names.delete(directory.ino, name)
    durability.entryChanged(directory.ino, name)
    touchDirectory(directory)
  }

  /** Makes an inode with a name and one reference. It inherits the group of a directory with the set-group-ID bit. */
  function make(parent: Ino, name: string, mode: number, caller: Caller): Inode {
    const directory = writable(parent)
    requireFree(parent, name)
    const hands = (directory.mode & S_ISGID) !== 0
    const inode = inodes.create(mode, caller.uid, hands ? directory.gid : caller.gid)
    if (hands && isDirectory(inode)) inode.mode |= S_ISGID
    inode.vital = isNeededToConnect(name)
    inode.atime = inode.mtime = inode.ctime = now()
    durability.attributesChanged(inode, true)
    enter(directory, name, inode)
    inodes.remember(inode.ino)
    return inode
  }

  /** One of an inode's names was removed. */
  function loseName(inode: Inode): void {
    inode.nlink = isDirectory(inode) ? 0 : inode.nlink - 1
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

  /** The target a tablespace link gets instead. @throws FileSystemError EPERM: it points out of the mount */
  function requireTablespace(target: string): string {
    const inside = tablespaceLinks.targetOf(target)
    if (inside === undefined) throw new FileSystemError('EPERM')
    return inside
  }

  /** A link renamed or linked into `pg_tblspc` must not point out of the mount. @throws FileSystemError EPERM */
  function requireTargetInside(parent: Ino, { target }: Inode): void {
    if (target !== undefined && tablespaceLinks.appliesTo(parent)) requireTablespace(target)
  }

  /** Checks that a rename may put `moved` in the place of `replaced`. */
  function requireReplaceable(moved: Inode, replaced: Inode): void {
    if (isDirectory(moved) && !isDirectory(replaced)) throw new FileSystemError('ENOTDIR')
    if (!isDirectory(moved) && isDirectory(replaced)) throw new FileSystemError('EISDIR')
    if (isDirectory(replaced) && !names.isEmpty(replaced.ino)) throw new FileSystemError('ENOTEMPTY')
  }

  function moveInto(directory: Inode, name: string, moved: Inode, from: Inode): void {
    enter(directory, name, moved)
    moved.ctime = now()
    durability.attributesChanged(moved)
    if (isDirectory(moved) && directory !== from) {
      countSubdirectory(from, -1)
      countSubdirectory(directory, 1)
    }
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
      const inode = make(parent, name, (type === 0 ? S_IFREG : type) | (mode & 0o7777), caller)
      inode.rdev = rdev
      return inode.attributes()
    },

    mkdir(parent, name, mode, caller) {
      const inode = make(parent, name, S_IFDIR | (mode & 0o7777), caller)
      inode.nlink = 2
      countSubdirectory(inodes.get(parent), 1)
      return inode.attributes()
    },

    symlink(parent, name, asked, caller) {
      const target = tablespaceLinks.appliesTo(parent) ? requireTablespace(asked) : asked
      const size = Buffer.byteLength(target)
      if (size > MAX_TARGET_BYTES) throw new FileSystemError('ENAMETOOLONG')
      const inode = make(parent, name, S_IFLNK | 0o777, caller)
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

    rename(parent, name, newParent, newName, mode: RenameMode) {
      const from = writable(parent)
      const to = writable(newParent)
      const moved = inodes.get(find(parent, name))
      requireFixedName(parent, moved.ino)
      if (isDirectory(moved) && names.isWithin(newParent, moved.ino)) throw new FileSystemError('EINVAL')
      requireName(newName)
      const replacedIno = names.lookup(newParent, newName)
      if (replacedIno === 0 && mode === 'exchange') throw new FileSystemError('ENOENT')
      if (replacedIno !== 0 && mode === 'noreplace') throw new FileSystemError('EEXIST')
      // POSIX: renaming one name of a file over another does nothing.
      if (replacedIno === moved.ino) return
      requireTargetInside(newParent, moved)
      const replaced = replacedIno === 0 ? undefined : inodes.get(replacedIno)
      if (replaced !== undefined) {
        requireFixedName(newParent, replacedIno)
        if (mode === 'exchange') {
          requireTargetInside(parent, replaced)
          if (isDirectory(replaced) && names.isWithin(parent, replacedIno))
            throw new FileSystemError('EINVAL')
          moveInto(to, newName, moved, from)
          moveInto(from, name, replaced, to)
          return
        }
        requireReplaceable(moved, replaced)
      }
      leave(from, name)
      moveInto(to, newName, moved, from)
      if (replaced === undefined) return
      if (isDirectory(replaced)) countSubdirectory(to, -1)
      loseName(replaced)
      durability.syncSoon(moved)
    },

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
