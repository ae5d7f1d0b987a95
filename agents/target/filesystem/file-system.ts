/**
 * The interface between the mounted file system and the drivers that receive FUSE requests.
 *
 * The engine implements it; a driver (the kernel protocol spoken directly, or fuse-native) translates requests to these
 * calls and errors to errno. It is based on inodes and reference counts, as the kernel's protocol is: there are no open
 * files here, an inode lives while it has a name or a reference. An operation that local state can answer returns its
 * value; only one that waits (for a missing block, for a sync) returns a promise. So a driver can answer the fast ones
 * synchronously: `const r = fs.read(…); if (typeof r === 'number') reply(r) else r.then(reply)`.
 */

import type { ObserveLatency } from '../../../config/monitoring/latencies.ts'
import type { Requester } from './reads/direct-reads.ts'

/** Inode number; 1 is the root of the mount. */
export type Ino = number

export type MaybePromise<T> = T | Promise<T>

/** Returned by `read` when another thread sends the reply. */
export const ANSWERED_BY_OTHER_THREAD = -1

export interface Attributes {
  readonly ino: Ino
  /** Type and permission bits, as in `st_mode`. */
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  /** Bytes. */
  readonly size: number
  /** Bytes allocated to the file, as in `st_blocks`. */
  readonly allocated: number
  /** Device number, as makedev(3) returns it. */
  readonly rdev: number
  /** Nanoseconds since the epoch. */
  readonly atime: bigint
  readonly mtime: bigint
  readonly ctime: bigint
}

/** What `setattr` changes; undefined members stay. Times: nanoseconds since the epoch, or the current time. */
export interface AttributeChanges {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  readonly atime?: bigint | 'now'
  readonly mtime?: bigint | 'now'
  /** Only from a kernel that maintains times itself (writeback cache); otherwise every change sets it to the current time. */
  readonly ctime?: bigint
}

export interface DirectoryEntry {
  readonly name: string
  readonly ino: Ino
  /** `S_IFMT` bits of the mode. */
  readonly type: number
}

export interface FileSystemStatistics {
  readonly blockSize: number
  readonly blocks: number
  readonly freeBlocks: number
  readonly availableBlocks: number
  readonly files: number
  readonly freeFiles: number
}

/** A POSIX error; the only kind that the engine's operations throw or reject with. */
export class FileSystemError extends Error {
  /** Symbolic, e.g. `ENOENT`; drivers map it to a number with `os.constants.errno`. */
  readonly errno: string

  constructor(errno: string, message = errno, options?: { cause?: unknown }) {
    // Most are routine results such as ENOENT, for which a stack trace costs too much.
    const limit = Error.stackTraceLimit
    if (options?.cause === undefined) Error.stackTraceLimit = 0
    super(message, options)
    Error.stackTraceLimit = limit
    this.name = 'FileSystemError'
    this.errno = errno
  }
}

/** The process that makes the request; it owns new files, whose group is the directory's where that has the set-group-ID bit. */
export interface Caller {
  readonly uid: number
  readonly gid: number
}

/** Of renameat2(2). */
export type RenameMode = 'replace' | 'noreplace' | 'exchange'

/** Of fallocate(2): allocate a range, punch a hole, or zero it; `keepSize`: the file does not grow. */
export interface Fallocate {
  readonly what: 'allocate' | 'punch-hole' | 'zero-range'
  readonly keepSize: boolean
}

export interface FileSystem {
  /** Attributes of a name; takes a reference. @throws FileSystemError ENOENT | ENOTDIR | EIO */
  lookup(parent: Ino, name: string): MaybePromise<Attributes>
  getattr(ino: Ino): Attributes
  setattr(ino: Ino, changes: AttributeChanges): MaybePromise<Attributes>
  readlink(ino: Ino): string
  /** A file of any type but directory and symbolic link; takes a reference, as all calls do that make a name. */
  mknod(parent: Ino, name: string, mode: number, rdev: number, caller: Caller): Attributes
  mkdir(parent: Ino, name: string, mode: number, caller: Caller): Attributes
  symlink(parent: Ino, name: string, target: string, caller: Caller): Attributes
  link(ino: Ino, parent: Ino, name: string): Attributes
  unlink(parent: Ino, name: string): void
  rmdir(parent: Ino, name: string): void
  /** By POSIX's rules; `replace` is rename(2). */
  rename(parent: Ino, name: string, newParent: Ino, newName: string, mode: RenameMode): void
  /** All entries except `.` and `..`; takes no references. */
  readdir(ino: Ino): MaybePromise<readonly DirectoryEntry[]>
  /** The parent of a directory; the root's is itself. */
  parent(ino: Ino): Ino

  /**
   * Reads into the start of `buffer`; returns the bytes read, fewer than requested only at the end of the file. With a
   * `requester`, an object that is valid only until this returns, the result may also be `ANSWERED_BY_OTHER_THREAD`.
   */
  read(
    ino: Ino,
    buffer: Buffer,
    length: number,
    position: number,
    requester?: Requester,
  ): MaybePromise<number>
  /**
   * `buffer` must not change until the promise, if one is returned, resolves. `accepted`: a kernel that caches writes has
   * already acknowledged this one to the writer; it is not refused for quota or reserve, and does not change the times,
   * which that kernel sets.
   */
  write(ino: Ino, buffer: Buffer, length: number, position: number, accepted?: boolean): MaybePromise<number>
  fallocate(ino: Ino, how: Fallocate, position: number, length: number): MaybePromise<void>
  /** The next position from `position` on in data or in a hole, as lseek(2). @throws FileSystemError ENXIO */
  seek(ino: Ino, position: number, to: 'data' | 'hole'): number
  /** Resolves when the data, and the metadata needed to find it, are durable. */
  fsync(ino: Ino): Promise<void>
  /** Makes a directory's entries durable. */
  fsyncdir(ino: Ino): Promise<void>
  /** Takes one more reference to an inode. */
  remember(ino: Ino): void
  /** Drops references; an inode without name and reference is freed. */
  forget(ino: Ino, count: number): void
  statfs(): FileSystemStatistics
  /**
   * Less space is left than the kernel may have accepted writes for (the limits' margin): it should send each write
   * through from now on, and `flushed` reports when it has written back everything before. Only then are writes refused
   * for lack of space.
   */
  readonly nearFull: boolean
  /** The kernel has written back everything it had accepted when the file system became near full. */
  flushed(): void
}

/** Receives FUSE requests for a `FileSystem`. */
export interface Driver {
  readonly name: string
  /** Mounts and starts to serve; resolves when the mount point answers. @throws HowdahError `mount_failed` | `fuse_unusable` */
  mount(mountPoint: string, fileSystem: FileSystem, options: MountOptions): Promise<MountedFileSystem>
}

export interface MountOptions {
  /** Owner of the mount: the published instance's user. */
  readonly uid: number
  readonly gid: number
  /** Users other than the mounting one may access it; the kernel checks permissions either way. */
  readonly allowOther: boolean
  /** What `/proc/mounts` shows as source. */
  readonly source: string
  /** Called for each request that was answered, with its number in the kernel's protocol; of a read and a write with its bytes. */
  readonly observe: ObserveLatency
}

export interface MountedFileSystem {
  /** Resolves when the mount is gone, however it was unmounted. */
  readonly ended: Promise<void>
  /** Unmounts; resolves when the kernel has released the mount. @throws HowdahError `mount_failed` when files are in use */
  unmount(): Promise<void>
}
