/** The operations that give a new or an existing inode a name. */
import { type Caller, type FileSystem, FileSystemError, type Ino } from '../file-system.ts'
import { isNeededToConnect } from '../space/space-use.ts'
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../tree/base-tree.ts'
import { type Inode, isDirectory } from './inode.ts'
import type { NameContext } from './name-context.ts'

/** Source: PATH_MAX of linux/limits.h, which includes the terminating NUL. */
const MAX_TARGET_BYTES = 4095
/** As on ext4; subdirectories are not limited. Source: EXT4_LINK_MAX of fs/ext4/ext4.h. */
const MAX_LINKS = 65_000
const S_ISGID = 0o2000

export function nameCreation({
  inodes,
  durability,
  wal,
  now,
  tablespaceLinks,
  checks,
  changes,
}: NameContext): Pick<FileSystem, 'mknod' | 'mkdir' | 'symlink' | 'link'> {
  const { writable, requireFree, requireTablespace, requireTargetInside } = checks
  const { addEntry, countSubdirectory } = changes

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
  }
}
