/**
 * The seam between the mounted file system and the way FUSE requests arrive.
 *
 * The engine implements it; a driver (the kernel protocol spoken directly, or fuse-native) translates requests to these
 * calls and errors to errno. Based on inodes and counted references, as the kernel's protocol is: there are no open
 * files here, an inode lives while it has a name or a reference. An operation that local state can answer returns its
 * value; only one that waits (for a missing block, for a sync) returns a promise. So a driver can answer the fast ones
 * at once: `const r = fs.read(…); if (typeof r === 'number') reply(r) else r.then(reply)`.
 */

import type { Requester } from './reads/direct-reads.ts'

/** Inode number; 1 is the root of the mount. */
export type Ino = number

export type MaybePromise<T> = T | Promise<T>

/** What `read` gives when another thread answers who asked. */
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
  /** Bytes that the file takes, as `st_blocks` tells. */
  readonly allocated: number
  /** Of a device, as makedev(3) gives it. */
  readonly rdev: number
  /** Nanoseconds since the epoch. */
  readonly atime: bigint
  readonly mtime: bigint
  readonly ctime: bigint
}

/** What `setattr` changes; what is undefined stays. Times: nanoseconds since the epoch, or the clock's now. */
export interface AttributeChanges {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  readonly atime?: bigint | 'now'
  readonly mtime?: bigint | 'now'
  /** Only from a kernel that keeps times itself (writeback cache); else every change sets it to now. */
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
    // Most are everyday answers, such as that there is no such name: where they come from is not worth its time.
    const limit = Error.stackTraceLimit
    if (options?.cause === undefined) Error.stackTraceLimit = 0
    super(message, options)
    Error.stackTraceLimit = limit
    this.name = 'FileSystemError'
    this.errno = errno
  }
}

/** Who makes the request; new files belong to them, and to the directory's group where that has the set-group-ID bit. */
export interface Caller {
  readonly uid: number
  readonly gid: number
}

/** Of renameat2(2). */
export type RenameMode = 'replace' | 'noreplace' | 'exchange'

/** Of fallocate(2): room for a range, a hole in it, or zeros in it; `keepSize`: the file does not grow. */
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
  /** A file of any kind but directory and symbolic link; takes a reference, as all do that make a name. */
  mknod(parent: Ino, name: string, mode: number, rdev: number, caller: Caller): Attributes
  mkdir(parent: Ino, name: string, mode: number, caller: Caller): Attributes
  symlink(parent: Ino, name: string, target: string, caller: Caller): Attributes
  link(ino: Ino, parent: Ino, name: string): Attributes
  unlink(parent: Ino, name: string): void
  rmdir(parent: Ino, name: string): void
  /** By POSIX's rules; `replace` is rename(2). */
  rename(parent: Ino, name: string, newParent: Ino, newName: string, mode: RenameMode): void
  /** All entries but `.` and `..`; takes no references. */
  readdir(ino: Ino): MaybePromise<readonly DirectoryEntry[]>
  /** The directory that a directory lies in; the root's is itself. */
  parent(ino: Ino): Ino

  /**
   * Reads into `buffer` from its start; gives the bytes read, fewer than asked only at the end of the file. With an
   * `requester`, whose values are its own only until this returns, it may also be `ANSWERED_BY_OTHER_THREAD`.
   */
  read(
    ino: Ino,
    buffer: Buffer,
    length: number,
    position: number,
    requester?: Requester,
  ): MaybePromise<number>
  /**
   * `buffer` must stay as it is until the promise, if one is given, resolves. `accepted`: the writer was told already
   * that this is written, by a kernel that caches writes; it is not refused for quota or reserve, and leaves the
   * times alone, which that kernel sets.
   */
  write(ino: Ino, buffer: Buffer, length: number, position: number, accepted?: boolean): MaybePromise<number>
  fallocate(ino: Ino, how: Fallocate, position: number, length: number): MaybePromise<void>
  /** The next position from `position` on in data or in a hole, as lseek(2). @throws FileSystemError ENXIO */
  seek(ino: Ino, position: number, to: 'data' | 'hole'): number
  /** Returns when data, and the metadata needed to find them, are durable. */
  fsync(ino: Ino): Promise<void>
  /** Makes a directory's entries durable. */
  fsyncdir(ino: Ino): Promise<void>
  /** One more reference to an inode that is known already. */
  remember(ino: Ino): void
  /** Gives up references; an inode without name and reference is freed. */
  forget(ino: Ino, count: number): void
  statfs(): FileSystemStatistics
  /**
   * There is less room left than the kernel may have accepted (the limits' margin): it should hand over each write from
   * now on, and say when it has handed over all from before. Only then is a write refused for room.
   */
  readonly nearFull: boolean
  /** The kernel has handed over what it had accepted when it became near full. */
  flushed(): void
}

/** A way for FUSE requests to arrive at a `FileSystem`. */
export interface Driver {
  readonly name: string
  /** Mounts and begins to serve; resolves when the mount point answers. @throws HowdahError `mount_failed` | `fuse_unusable` */
  mount(mountPoint: string, fileSystem: FileSystem, options: MountOptions): Promise<MountedFileSystem>
}

export interface MountOptions {
  /** Owner of the mount: the published instance's user. */
  readonly uid: number
  readonly gid: number
  /** Other users than the one that mounts may enter; permissions are checked by the kernel either way. */
  readonly allowOther: boolean
  /** What `/proc/mounts` shows as source. */
  readonly source: string
}

export interface MountedFileSystem {
  /** Resolves when the mount is gone, whoever unmounted it. */
  readonly ended: Promise<void>
  /** Unmounts; resolves when the kernel has let go. @throws HowdahError `mount_failed` when files are in use */
  unmount(): Promise<void>
}
