/** The operations on files and their handles. What bytes are is file-contents.ts's. */
import { constants } from 'node:fs'
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './base-tree.ts'
import type { DirectoryOperations } from './directory-operations.ts'
import type { Durability } from './durability.ts'
import type { FileContents } from './file-contents.ts'
import {
  type AttributeChanges,
  type Attributes,
  type FileSystem,
  FileSystemError,
  type Handle,
  type Ino,
} from './file-system.ts'
import type { Inode } from './inode.ts'
import type { Inodes } from './inodes.ts'
import { newReadStream, type ReadStream } from './read-path.ts'
import type { WalDirectory } from './wal-directory.ts'

export interface FileOperationsDependencies {
  readonly directories: DirectoryOperations
  readonly inodes: Inodes
  readonly contents: FileContents
  readonly durability: Durability
  readonly wal: WalDirectory
  /** The directory `wal/`. */
  readonly walIno: Ino
  /** Seconds since the epoch. */
  readonly now: () => number
}

export type FileOperations = Pick<
  FileSystem,
  'getattr' | 'setattr' | 'open' | 'create' | 'read' | 'write' | 'fsync' | 'release'
>

interface OpenFile {
  readonly ino: Ino
  /** None for a WAL file. */
  readonly inode: Inode | undefined
  readonly stream: ReadStream
}

const O_ACCMODE = 3
const { O_EXCL, O_RDONLY, O_TRUNC } = constants

export function createFileOperations(dependencies: FileOperationsDependencies): FileOperations {
  const { directories, inodes, contents, durability, wal, walIno, now } = dependencies
  const handles = new Map<Handle, OpenFile>()
  let nextHandle: Handle = 1

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

  function open(ino: Ino, flags: number): Handle {
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
  }

  return {
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

    open,

    create(parent, name, mode, flags) {
      const existing = directories.existing(parent, name)
      if (existing === 0) {
        const inode = directories.make(parent, name, S_IFREG | (mode & 0o7777))
        return { attributes: inode.attributes(), handle: openHandle(inode.ino, inode) }
      }
      if ((flags & O_EXCL) !== 0) throw new FileSystemError('EEXIST')
      const handle = open(existing, flags)
      inodes.remember(existing)
      return { attributes: inodes.attributes(existing), handle }
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

    release(handle) {
      const { inode } = opened(handle)
      handles.delete(handle)
      if (inode === undefined) return
      inode.handles--
      inodes.freeIfUnused(inode)
    },
  }
}
