/** Messages to the kernel that answer no request. Each is one write to the device. */
import type { Ino } from '../../file-system.ts'
import { NOTIFY_INVAL_INODE, NOTIFY_RETRIEVE, OUT, OUT_HEADER_BYTES } from './protocol.ts'

/** `fuse_notify_retrieve_out`: notify_unique, nodeid, offset, size. */
const RETRIEVE_BYTES = 32
/** `fuse_notify_inval_inode_out`: ino, off, len. */
const INVAL_INODE_BYTES = 24
const HEADER_WORDS = OUT.SIZE_WORDS

/**
 * Requests zero pages of a regular file. The kernel replies with a NOTIFY_REPLY request, which wakes the thread that sleeps
 * in the device; writing the message fails with ENOENT when the kernel does not have the inode in memory. Before INIT is
 * answered, writing it blocks.
 */
export function retrieveNothingMessage(ino: Ino): Buffer {
  const { bytes, words } = notification(NOTIFY_RETRIEVE, RETRIEVE_BYTES)
  words[HEADER_WORDS + 2] = ino
  words[HEADER_WORDS + 3] = ino / 2 ** 32
  return bytes
}

/**
 * Invalidates the kernel's attributes of an inode. With `pages` also the file's cached pages, of which the dirty ones are
 * written to the server first: writing the message then blocks until the server has answered these WRITEs.
 */
export function invalidateMessage(ino: Ino, pages: boolean): Buffer {
  const { bytes, words } = notification(NOTIFY_INVAL_INODE, INVAL_INODE_BYTES)
  words[HEADER_WORDS] = ino
  words[HEADER_WORDS + 1] = ino / 2 ** 32
  // An offset below zero: attributes only. A length of zero: to the end.
  if (!pages) words.fill(0xffffffff, HEADER_WORDS + 2, HEADER_WORDS + 4)
  return bytes
}

/** The code of a notification is in the error field of a reply, and its unique number is zero. */
function notification(code: number, length: number): { bytes: Buffer; words: Uint32Array } {
  const bytes = Buffer.alloc(OUT_HEADER_BYTES + length)
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  words[OUT.LENGTH] = bytes.length
  words[OUT.ERROR] = code
  return { bytes, words }
}
