/**
 * The kernel's FUSE protocol in numbers: operations, flags, and where the fields of its structs lie. No behaviour.
 *
 * Source of all: include/uapi/linux/fuse.h of Linux, versions 7.27 to 7.45, and where it says so other headers beside
 * it. Numbers are in native byte order. Offsets named `…_WORD` count words of 32 bits from the start of a
 * message; a number of 64 bits takes two words.
 */

export const MAJOR = 7
/** The newest minor version whose structs are supported. */
export const MINOR = 45
/** 7.27 (Linux 4.18): Node 24 runs on no older kernel, and the tests imitate none. */
export const OLDEST_MINOR = 27

export const ROOT_ID = 1

/** `enum fuse_opcode` */
export const OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  FSYNC: 20,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
} as const

/** `fuse_notify_code` */
export const NOTIFY_INVAL_INODE = 2
export const NOTIFY_RETRIEVE = 5

/** Flags of INIT, the low 32 bits. */
export const INIT = {
  ASYNC_READ: 1 << 0,
  BIG_WRITES: 1 << 5,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
} as const

/** `fuse_setattr_in.valid` */
export const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const

/** `fuse_write_in.write_flags` */
export const WRITE_FLAG = {
  /** From the page cache: the write was acknowledged to the writer long ago. */
  CACHE: 1 << 0,
  KILL_SUIDGID: 1 << 2,
} as const

/** Of renameat2(2): linux/fs.h */
export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2

/** Of fallocate(2): linux/falloc.h */
export const FALLOC_KEEP_SIZE = 0x01
export const FALLOC_PUNCH_HOLE = 0x02
export const FALLOC_ZERO_RANGE = 0x10

/** Of lseek(2): linux/fs.h */
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

/** `fuse_in_header`: len, opcode, unique, nodeid, uid, gid, pid, total_extlen. */
export const IN = {
  LENGTH: 0,
  OPCODE: 1,
  UNIQUE: 2,
  NODE: 4,
  UID: 6,
  GID: 7,
  PID: 8,
  SIZE_WORDS: 10,
} as const
export const IN_HEADER_BYTES = 40
/** Where the data of a WRITE begins: after `fuse_in_header` and `fuse_write_in`. */
export const WRITE_DATA_AT = 80

/** `fuse_out_header`: len, error, unique. */
export const OUT = { LENGTH: 0, ERROR: 1, UNIQUE: 2, SIZE_WORDS: 4 } as const
export const OUT_HEADER_BYTES = 16

/** `fuse_entry_out` without its `fuse_attr`; the same without the name's part is `fuse_attr_out`. */
export const ENTRY_HEAD_BYTES = 40
export const ATTR_HEAD_BYTES = 16
export const ATTR_BYTES = 88
export const ENTRY_BYTES = ENTRY_HEAD_BYTES + ATTR_BYTES
/** `fuse_dirent` without its name, which is padded with zeros to a multiple of 8 bytes. */
export const DIRENT_HEAD_BYTES = 24
/** `fuse_init_out` */
export const INIT_OUT_BYTES = 64

/** The longest file name of Linux: linux/limits.h, NAME_MAX. */
export const NAME_MAX = 255

/** Maximum data of one request: the kernel's limit unless fs.fuse.max_pages_limit was raised. */
export const MAX_TRANSFER = 1024 * 1024
export const MAX_PAGES = 256
