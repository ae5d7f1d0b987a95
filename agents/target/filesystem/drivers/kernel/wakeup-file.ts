/**
 * The bell: an empty file in the root that no listing shows and that only this driver knows. The kernel can be asked to
 * hand over its pages, of which there are none, and its answer wakes the thread that sleeps in the device.
 *
 * It has to be a file of its own: newer kernels give pages of regular files only (6.18.44 does; fuse_notify_retrieve in
 * fs/fuse), and all only of inodes that they hold at that moment.
 */
import type { Attributes } from '../../file-system.ts'

export const WAKEUP_FILE_NAME = '.howdah-bell'

/** No inode of the engine gets that far. */
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
