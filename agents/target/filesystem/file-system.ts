/**
 * The seam between the mounted file system and the way FUSE requests arrive.
 *
 * The engine implements it; a driver (fuse-native, later the kernel protocol spoken directly) translates requests to
 * these calls and errors to errno. Inode- and handle-based, as the kernel is. An operation that local state can answer
 * returns its value; only one that waits (for a missing block, for a sync) returns a promise. So a driver can answer
 * the fast ones at once: `const r = fs.read(…); if (typeof r === 'number') reply(r) else r.then(reply)`.
 */

/** Inode number; 1 is the root of the mount. */
export type Ino = number

/** An open file or directory. */
export type Handle = number

export type MaybePromise<T> = T | Promise<T>

export interface Attributes {
  readonly ino: Ino
  /** Type and permission bits, as in `st_mode`. */
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  /** Bytes. */
  readonly size: number
  /** Bytes that the file takes in local storage. */
  readonly allocated: number
  /** Seconds since the epoch, with fraction. */
  readonly atime: number
  readonly mtime: number
  readonly ctime: number
}

/** What `setattr` changes; what is undefined stays. Times: seconds since the epoch, or the clock's now. */
export interface AttributeChanges {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  readonly atime?: number | 'now'
  readonly mtime?: number | 'now'
}

export interface DirectoryEntry {
  readonly name: string
  readonly ino: Ino
  /** `S_IFMT` bits of the mode. */
  readonly type: number
}

/** Who makes the request; new files belong to them unless the file system has a fixed owner. */
export interface Caller {
  readonly uid: number
  readonly gid: number
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
    super(message, options)
    this.name = 'FileSystemError'
    this.errno = errno
  }
}

export interface FileSystem {
  /** @throws FileSystemError ENOENT | ENOTDIR | EIO */
  lookup(parent: Ino, name: string): MaybePromise<Attributes>
  getattr(ino: Ino): Attributes
  setattr(ino: Ino, changes: AttributeChanges): MaybePromise<Attributes>
  readlink(ino: Ino): string
  mkdir(parent: Ino, name: string, mode: number, caller: Caller): Attributes
  symlink(parent: Ino, name: string, target: string, caller: Caller): Attributes
  link(ino: Ino, parent: Ino, name: string): Attributes
  unlink(parent: Ino, name: string): void
  rmdir(parent: Ino, name: string): void
  /** Replaces `newName` when it exists, by POSIX's rules. */
  rename(parent: Ino, name: string, newParent: Ino, newName: string): void
  /** All entries but `.` and `..`. */
  readdir(ino: Ino): MaybePromise<readonly DirectoryEntry[]>

  /** `flags` as in open(2); O_TRUNC is honoured here, O_CREAT and O_EXCL in `create`. */
  open(ino: Ino, flags: number): MaybePromise<Handle>
  create(
    parent: Ino,
    name: string,
    mode: number,
    flags: number,
    caller: Caller,
  ): MaybePromise<{ attributes: Attributes; handle: Handle }>
  /** Reads into `buffer` from its start; gives the bytes read, fewer than asked only at the end of the file. */
  read(handle: Handle, buffer: Buffer, length: number, position: number): MaybePromise<number>
  write(handle: Handle, buffer: Buffer, length: number, position: number): MaybePromise<number>
  /** Returns when data, and the metadata needed to find them, are durable. */
  fsync(handle: Handle): Promise<void>
  /** Makes a directory's entries durable. */
  fsyncdir(ino: Ino): Promise<void>
  release(handle: Handle): MaybePromise<void>
  /** The kernel gives up references that lookups gave it; an unlinked inode without any is freed. */
  forget(ino: Ino, count: number): void
  statfs(): FileSystemStatistics
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
