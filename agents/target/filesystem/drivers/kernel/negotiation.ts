/** The first exchange on the device (INIT): which of the kernel's features Howdah uses. */

import { INIT, INIT_OUT_BYTES, MAJOR, MAX_PAGES, MAX_TRANSFER, MINOR, OLDEST_MINOR } from './protocol.ts'
import type { Reply } from './reply.ts'
import type { Request } from './request.ts'

/** `fuse_init_in`: major, minor, max_readahead, flags. */
const IN_MAJOR = 10
const IN_MINOR = 11
const IN_FLAGS = 13
/**
 * Read-ahead and write-back requests that the kernel may have in flight: no limit. So none is queued in the kernel, and
 * requests are read in the order in which they were made.
 */
const MAX_BACKGROUND = 0xffff
const CONGESTED_AT = 0xffff
/** The kernel uses the smaller of this and the setting of its backing device, which is tuned after mounting. */
const MAX_READ_AHEAD = 64 * 1024 * 1024
const EPROTO = 71

/**
 * The features used, and why.
 * - WRITEBACK_CACHE: writes are cached by the kernel, which then maintains sizes and times of regular files. Only with
 *   HANDLE_KILLPRIV_V2.
 * - NO_OPEN_SUPPORT: no OPEN requests, requests name inodes.
 * - EXPLICIT_INVAL_DATA, and not AUTO_INVAL_DATA: only this mount changes files, so cached pages stay valid.
 * - DO_READDIRPLUS with READDIRPLUS_AUTO: `ls -l` of a directory is one request, `ls` makes no lookups.
 * - HANDLE_KILLPRIV_V2: set-user-ID bits are cleared here, and files that have one are written through: see
 *   write-through.ts.
 * Not used: ATOMIC_O_TRUNC (O_TRUNC arrives as SETATTR); DONT_MASK (modes arrive with the umask applied); POSIX_LOCKS and
 * FLOCK_LOCKS (locks are the kernel's own); NO_OPENDIR_SUPPORT (listings are kept for each open directory).
 */
const WANTED =
  INIT.ASYNC_READ |
  INIT.BIG_WRITES |
  INIT.DO_READDIRPLUS |
  INIT.READDIRPLUS_AUTO |
  INIT.ASYNC_DIO |
  INIT.WRITEBACK_CACHE |
  INIT.NO_OPEN_SUPPORT |
  INIT.PARALLEL_DIROPS |
  INIT.MAX_PAGES |
  INIT.CACHE_SYMLINKS |
  INIT.EXPLICIT_INVAL_DATA |
  INIT.HANDLE_KILLPRIV_V2

/** What a kernel offers in INIT. */
export interface Offer {
  /** Of the protocol's version 7. */
  readonly minor: number
  /** `INIT`. */
  readonly flags: number
}

/** What both sides use from now on. */
export interface Agreement extends Offer {
  /** The kernel caches writes, and sends them later. */
  readonly cachesWrites: boolean
}

/** Whether the protocol is too old: see `OLDEST_MINOR`; without NO_OPEN_SUPPORT no file could be opened. */
export function isTooOld({ minor, flags }: Offer): boolean {
  return minor < OLDEST_MINOR || (flags & INIT.NO_OPEN_SUPPORT) === 0
}

/**
 * Without HANDLE_KILLPRIV_V2 (before Linux 5.11) files cannot be switched to write-through, and writers would see a full
 * disk only as an fsync error, at which PostgreSQL panics. There writes are not cached.
 */
export function agreement({ minor, flags }: Offer): Agreement {
  const wanted = flags & WANTED
  const cachesWrites = (wanted & INIT.HANDLE_KILLPRIV_V2) !== 0 && (wanted & INIT.WRITEBACK_CACHE) !== 0
  return {
    minor: Math.min(minor, MINOR),
    flags: cachesWrites ? wanted : wanted & ~INIT.WRITEBACK_CACHE,
    cachesWrites,
  }
}

export type Answered =
  | { readonly outcome: 'agreed'; readonly length: number; readonly agreement: Agreement }
  | { readonly outcome: 'ask-again'; readonly length: number }
  | { readonly outcome: 'refused'; readonly errno: number }

/** The offer in an INIT; undefined when it is of another major version. */
export function offerOf(request: Request): Offer | undefined {
  request.need(4)
  if (request.word(IN_MAJOR) !== MAJOR) return undefined
  return { minor: request.word(IN_MINOR), flags: request.word(IN_FLAGS) }
}

/**
 * Answers INIT. `ask-again`: the kernel has a newer major version and will send INIT again with ours. Source: the comment «Version
 * negotiation» in linux/fuse.h.
 */
export function negotiate(request: Request, reply: Reply): Answered {
  const offer = offerOf(request)
  reply.zero(INIT_OUT_BYTES)
  reply.word(0, MAJOR)
  reply.word(1, MINOR)
  if (request.word(IN_MAJOR) > MAJOR) return { outcome: 'ask-again', length: INIT_OUT_BYTES }
  if (offer === undefined || isTooOld(offer)) return { outcome: 'refused', errno: EPROTO }
  const agreed = agreement(offer)
  reply.word(1, agreed.minor)
  reply.word(2, MAX_READ_AHEAD)
  reply.word(3, agreed.flags)
  // max_background and congestion_threshold, of 16 bits each.
  reply.halves(4, MAX_BACKGROUND, CONGESTED_AT)
  reply.word(5, MAX_TRANSFER)
  // time_gran: times are exact to the nanosecond.
  reply.word(6, 1)
  // max_pages and map_alignment.
  reply.halves(7, MAX_PAGES, 0)
  return { outcome: 'agreed', length: INIT_OUT_BYTES, agreement: agreed }
}
