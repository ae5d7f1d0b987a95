/**
 * The wake-up file: an empty file in the root, shown by no listing and used by this driver only. Asking the kernel for its
 * cached pages (NOTIFY_RETRIEVE), of which there are none, makes the kernel send a reply, which wakes the thread that
 * sleeps in the device.
 *
 * A regular file is needed: newer kernels return pages of regular files only (seen on 6.18.44; fuse_notify_retrieve in
 * fs/fuse), and every kernel only of inodes it currently has in memory.
 */
import type { Attributes } from '../../file-system.ts'

export const WAKEUP_FILE_NAME = '.howdah-wakeup'

/** Its inode number is above all of the engine's. */
export const WAKEUP_FILE: Attributes = {
  ino: Number.MAX_SAFE_INTEGER,
  mode: 0o100000,
  nlink: 1,
  uid: 0,
  gid: 0,
  size: 0,
  allocated: 0,
  rdev: 0,
  atime: 0n,
  mtime: 0n,
  ctime: 0n,
}
