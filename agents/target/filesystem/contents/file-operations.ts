/** The operations on files: checks and attributes. Bytes are handled by file-contents.ts and file-ranges.ts. */

import type { Durability } from '../durability/durability.ts'
import { type Attributes, type FileSystem, FileSystemError, type Ino } from '../file-system.ts'
import type { Inode } from '../namespace/inode.ts'
import type { Inodes } from '../namespace/inodes.ts'
import { S_IFDIR, S_IFMT, S_IFREG } from '../tree/base-tree.ts'
import type { WalDirectory } from '../wal/wal-directory.ts'
import type { FileContents } from './file-contents.ts'
import type { FileRanges } from './file-ranges.ts'

export interface FileOperationsDependencies {
  readonly inodes: Inodes
  readonly contents: FileContents
  readonly ranges: FileRanges
  readonly durability: Durability
  readonly wal: WalDirectory
  /** The directory `wal/`. */
  readonly walIno: Ino
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint
}

export type FileOperations = Pick<
  FileSystem,
  'getattr' | 'setattr' | 'read' | 'write' | 'fallocate' | 'seek' | 'fsync'
>

export function createFileOperations(dependencies: FileOperationsDependencies): FileOperations {
  const { inodes, contents, ranges, durability, wal, walIno, now } = dependencies

  /** The inode of a regular file. @throws FileSystemError EISDIR | EINVAL */
  function regular(ino: Ino): Inode {
    const inode = inodes.get(ino)
    const type = inode.mode & S_IFMT
    if (type !== S_IFREG) throw new FileSystemError(type === S_IFDIR ? 'EISDIR' : 'EINVAL')
    return inode
  }

  /** Source: POSIX, of write() and of fallocate(): EINVAL below zero, EFBIG beyond the largest file. */
  function requireRange(position: number, length: number): void {
    if (position < 0 || length < 0) throw new FileSystemError('EINVAL')
    if (!Number.isSafeInteger(position + length)) throw new FileSystemError('EFBIG')
  }

  return {
    getattr(ino) {
      return wal.has(ino) ? wal.getattr(ino) : inodes.attributes(ino)
    },

    setattr(ino, changes): Attributes {
      if (wal.has(ino) || ino === walIno) throw new FileSystemError('EROFS')
      const inode = inodes.get(ino)
      const { mode, uid, gid, size, atime, mtime, ctime } = changes
      if (size !== undefined) {
        requireRange(size, 0)
        contents.resize(regular(ino), size)
      }
      if (mode !== undefined) inode.mode = (inode.mode & S_IFMT) | (mode & 0o7777)
      if (uid !== undefined) inode.uid = uid
      if (gid !== undefined) inode.gid = gid
      const time = now()
      inode.ctime = ctime ?? time
      if (atime !== undefined) inode.atime = atime === 'now' ? time : atime
      if (mtime !== undefined) inode.mtime = mtime === 'now' ? time : mtime
      // A kernel that maintains the times itself sends them alone before every sync; the sync need not commit them.
      const timesOnly = ctime !== undefined && [mode, uid, gid, atime].every((change) => change === undefined)
      durability.attributesChanged(inode, !timesOnly)
      return inode.attributes()
    },

    read(ino, buffer, length, position, requester) {
      if (wal.has(ino)) return wal.read(ino, buffer, length, position)
      return contents.read(regular(ino), buffer, length, position, requester)
    },

    write(ino, buffer, length, position, accepted) {
      if (wal.has(ino)) throw new FileSystemError('EROFS')
      requireRange(position, length)
      return contents.write(regular(ino), buffer, length, position, accepted)
    },

    fallocate(ino, how, position, length) {
      if (wal.has(ino)) throw new FileSystemError('EROFS')
      requireRange(position, length)
      if (length === 0) throw new FileSystemError('EINVAL')
      return ranges.fallocate(regular(ino), how, position, length)
    },

    seek(ino, position, to) {
      if (position < 0) throw new FileSystemError('ENXIO')
      if (!wal.has(ino)) return ranges.seek(regular(ino), position, to)
      const { size } = wal.getattr(ino)
      if (position >= size) throw new FileSystemError('ENXIO')
      return to === 'data' ? position : size
    },

    async fsync(ino) {
      if (!wal.has(ino)) await durability.syncFile(inodes.get(ino))
    },
  }
}
