/**
 * Goes over the records of one WAL segment. Pure: bytes in, records out; what they mean is wal-records.ts.
 *
 * Facts, the same for PostgreSQL 10 to 18 (access/xlog_internal.h, access/xlogrecord.h, access/transam/xlogreader.c):
 * a segment is pages of `xlp_xlog_blcksz` bytes; each begins with XLogPageHeaderData (24 bytes when aligned: u16 magic,
 * u16 info, u32 timeline, u64 address, u32 rest of the record that goes on here), the first one with
 * XLogLongPageHeaderData (and u64 system identifier, u32 segment size, u32 page size; 40 bytes). A record begins at a
 * multiple of 8 with XLogRecord (24 bytes: u32 length, u32 xid, u64 previous record, u8 info, u8 resource manager, two
 * bytes nothing, u32 CRC-32C over what follows the header and then the header), and goes on after the header of the next
 * page. After a switch record the rest of its segment is empty.
 */
import { crc32c } from './crc32c.ts'
import { formatLsn } from './lsn.ts'

export interface WalRecord {
  /** Where it starts. */
  readonly lsn: bigint
  /** Where it ends: what `pg_current_wal_insert_lsn` gave right after it, but for alignment. */
  readonly end: bigint
  readonly xid: number
  readonly resourceManager: number
  readonly info: number
  /** All of it, header included. */
  readonly bytes: Buffer
}

export interface ScanOptions {
  /** Where the segment starts. */
  readonly base: bigint
  /** The first pages of the next segment, into which the last record may reach. */
  readonly next?: Buffer | undefined
  /** Offset of a record to begin at, as an earlier scan's `unfinished` told. Default: the segment's first. */
  readonly from?: number
  /** Records from there on are of another timeline. */
  readonly before?: bigint | undefined
  /** Whether records of that kind are worth having. */
  readonly wanted: (resourceManager: number, info: number) => boolean
  readonly visit: (record: WalRecord) => void
}

export interface Scan {
  /** The last record that is complete, if there is one. */
  readonly lastStart: bigint | undefined
  readonly lastEnd: bigint | undefined
  /** Offset of a wanted record, or one that may be, of which the rest is in the next segment. */
  readonly unfinished: number | undefined
}

export interface SegmentHeader {
  readonly base: bigint
  readonly timeline: number
  readonly systemIdentifier: bigint
  readonly segmentBytes: number
  readonly pageBytes: number
}

/** XLOG_PAGE_MAGIC of PostgreSQL 10; that of 18 is 0xD118. What comes after has been the same shape for long. */
const FIRST_MAGIC = 0xd097
const LAST_MAGIC = 0xd1ff
const CONTINUES = 0x0001
const LONG_HEADER = 0x0002
const HEADER_BYTES = 24
const LONG_HEADER_BYTES = 40
const RECORD_HEADER_BYTES = 24
/** XLogRecordMaxSize of access/xlogrecord.h. */
const MAX_RECORD_BYTES = 1020 * 1024 * 1024

const RM_XLOG = 0
const XLOG_SWITCH = 0x40

/** Undefined: these bytes do not begin a WAL segment of a version that is known. */
export function readSegmentHeader(segment: Buffer): SegmentHeader | undefined {
  if (segment.length < LONG_HEADER_BYTES) return undefined
  const magic = segment.readUInt16LE(0)
  const segmentBytes = segment.readUInt32LE(32)
  const pageBytes = segment.readUInt32LE(36)
  const isValid =
    magic >= FIRST_MAGIC &&
    magic <= LAST_MAGIC &&
    (segment.readUInt16LE(2) & LONG_HEADER) !== 0 &&
    isPowerOfTwo(segmentBytes, 1024 ** 2, 1024 ** 3) &&
    isPowerOfTwo(pageBytes, 1024, 64 * 1024)
  if (!isValid) return undefined
  return {
    base: segment.readBigUInt64LE(8),
    timeline: segment.readUInt32LE(4),
    systemIdentifier: segment.readBigUInt64LE(24),
    segmentBytes,
    pageBytes,
  }
}

const isPowerOfTwo = (value: number, least: number, most: number) =>
  value >= least && value <= most && (value & (value - 1)) === 0

/** @throws Error when the bytes are no segment that starts at `base` */
export function scanSegment(segment: Buffer, options: ScanOptions): Scan {
  const { base, next, before, wanted, visit } = options
  const header = readSegmentHeader(segment)
  if (header === undefined || header.base !== base) {
    throw new Error(`these bytes are no WAL segment that starts at ${formatLsn(base)}`)
  }
  const { pageBytes } = header
  const limit = segment.length + (next?.length ?? 0)
  const end = before === undefined ? segment.length : Math.min(segment.length, Number(before - base))

  const bufferAt = (offset: number) => (offset < segment.length ? segment : (next ?? segment))
  const within = (offset: number) => (offset < segment.length ? offset : offset - segment.length)

  /** Header length of the page at `offset`, and what goes on there of a record before; undefined: no valid page. */
  function page(offset: number): { readonly bytes: number; readonly rest: number } | undefined {
    if (offset + HEADER_BYTES > limit) return undefined
    const buffer = bufferAt(offset)
    const at = within(offset)
    const magic = buffer.readUInt16LE(at)
    if (magic < FIRST_MAGIC || magic > LAST_MAGIC) return undefined
    if (buffer.readBigUInt64LE(at + 8) !== base + BigInt(offset)) return undefined
    const info = buffer.readUInt16LE(at + 2)
    const bytes = (info & LONG_HEADER) === 0 ? HEADER_BYTES : LONG_HEADER_BYTES
    return { bytes, rest: (info & CONTINUES) === 0 ? 0 : buffer.readUInt32LE(at + 16) }
  }

  const pageEnd = (offset: number) => (Math.floor(offset / pageBytes) + 1) * pageBytes

  /** Where the first record of the page at `offset` starts, past what goes on there; undefined: not in this segment. */
  function firstRecord(offset: number): number | undefined {
    for (let at = offset; at < segment.length; at += pageBytes) {
      const found = page(at)
      if (found === undefined) return undefined
      if (found.rest <= pageBytes - found.bytes) return align(at + found.bytes + found.rest)
    }
    return undefined
  }

  type Place =
    | { readonly kind: 'here'; readonly end: number }
    | { readonly kind: 'beyond' }
    | { readonly kind: 'torn' }
    | { readonly kind: 'given-up'; readonly page: number }

  /** Follows a record over its pages, and hands on where its pieces are. */
  function follow(start: number, length: number, piece?: (offset: number, bytes: number) => void): Place {
    let at = start
    for (let left = length; ; ) {
      const bytes = Math.min(left, pageEnd(at) - at)
      piece?.(at, bytes)
      left -= bytes
      at += bytes
      if (left === 0) return { kind: 'here', end: at }
      if (at >= limit) return { kind: 'beyond' }
      const found = page(at)
      if (found === undefined) return { kind: 'torn' }
      // The server crashed in the middle of writing it, and began another one here (XLP_FIRST_IS_OVERWRITE_CONTRECORD).
      if (found.rest === 0) return { kind: 'given-up', page: at }
      if (found.rest !== left) return { kind: 'torn' }
      at += found.bytes
    }
  }

  /** The first `bytes` of a record, as many of them as are there. */
  function gather(start: number, length: number, bytes = length): Buffer {
    const pieces: Buffer[] = []
    let left = bytes
    follow(start, length, (offset, here) => {
      const at = within(offset)
      if (left > 0) pieces.push(bufferAt(offset).subarray(at, at + Math.min(here, left)))
      left -= here
    })
    const [only] = pieces
    return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces)
  }

  const isWhole = (bytes: Buffer) =>
    crc32c(bytes.subarray(RECORD_HEADER_BYTES), bytes.subarray(0, 20)) === bytes.readUInt32LE(20)

  interface Last {
    readonly start: number
    readonly length: number
    readonly end: number
    readonly checked: boolean
  }
  let last: Last | undefined
  let oneBefore: Last | undefined
  let unfinished: number | undefined
  let at = options.from ?? firstRecord(0)
  while (at !== undefined && at < end) {
    if (at % pageBytes === 0) {
      at = firstRecord(at)
      continue
    }
    const length = segment.readUInt32LE(at)
    if (length < RECORD_HEADER_BYTES || length > MAX_RECORD_BYTES) break
    const isHeaderHere = pageEnd(at) - at >= RECORD_HEADER_BYTES
    const place: Place = follow(at, length)
    if (place.kind === 'torn') break
    if (place.kind === 'given-up') {
      at = place.page < segment.length ? firstRecord(place.page) : undefined
      continue
    }
    // A header over two pages is worth the copy: there are few.
    const head = isHeaderHere ? segment : gather(at, length, RECORD_HEADER_BYTES)
    const headAt = isHeaderHere ? at : 0
    const isHeadKnown = head.length - headAt >= RECORD_HEADER_BYTES
    if (place.kind === 'beyond') {
      const matters = !isHeadKnown || wanted(head[headAt + 17] ?? 0, head[headAt + 16] ?? 0)
      if (matters) unfinished = at
      break
    }
    // What an earlier use of the file left behind is not chained to what is there now.
    if (last !== undefined && head.readBigUInt64LE(headAt + 8) !== base + BigInt(last.start)) break
    const info = head[headAt + 16] ?? 0
    const resourceManager = head[headAt + 17] ?? 0
    const isSwitch = resourceManager === RM_XLOG && (info & 0xf0) === XLOG_SWITCH
    const checked = isSwitch || wanted(resourceManager, info)
    if (checked) {
      const bytes = gather(at, length)
      if (!isWhole(bytes)) break
      const lsn = base + BigInt(at)
      const recordEnd = base + BigInt(place.end)
      visit({ lsn, end: recordEnd, xid: bytes.readUInt32LE(4), resourceManager, info, bytes })
    }
    oneBefore = last
    last = { start: at, length, end: place.end, checked }
    if (isSwitch) break
    at = align(place.end)
  }
  if (last !== undefined && !last.checked && !isWhole(gather(last.start, last.length))) last = oneBefore
  return {
    lastStart: last === undefined ? undefined : base + BigInt(last.start),
    lastEnd: last === undefined ? undefined : base + BigInt(last.end),
    unfinished,
  }
}

const align = (offset: number) => Math.ceil(offset / 8) * 8
