/**
 * Scans the records of one WAL segment, in order, up to where its WAL ends. Pure: bytes in, records out; what they mean
 * is wal-records.ts.
 *
 * Facts, the same for PostgreSQL 10 to 18 (access/xlogrecord.h, access/transam/xlogreader.c): a record begins with
 * XLogRecord (24 bytes: u32 length, u32 xid, u64 previous record, u8 info, u8 resource manager, two bytes of padding, u32
 * CRC-32C over what follows the header and then the header). After a switch record the rest of its segment is empty.
 */
import { crc32c } from './crc32c.ts'
import { formatLsn } from './lsn.ts'
import { alignRecord, openSegmentPages, readSegmentHeader, type SegmentPages } from './wal-pages.ts'

export interface WalRecord {
  /** Where it starts. */
  readonly lsn: bigint
  /** Where it ends: what `pg_current_wal_insert_lsn` returned right after it, but for alignment. */
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
  /** Offset of a record to begin at, the `unfinished` of an earlier scan. Default: the segment's first. */
  readonly from?: number
  /** Records from there on are of another timeline. */
  readonly before?: bigint | undefined
  /** Which records are visited. */
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

const RECORD_HEADER_BYTES = 24
/** XLogRecordMaxSize of access/xlogrecord.h. */
const MAX_RECORD_BYTES = 1020 * 1024 * 1024

const RM_XLOG = 0
const XLOG_SWITCH = 0x40

/** A complete record; offsets in the segment. */
interface Scanned {
  readonly start: number
  readonly length: number
  readonly end: number
  /** Whether its CRC was compared. */
  readonly checked: boolean
}

/** @throws Error when the bytes are no segment that starts at `base` */
export function scanSegment(segment: Buffer, options: ScanOptions): Scan {
  const { base, next, before, wanted, visit } = options
  const header = readSegmentHeader(segment)
  if (header === undefined || header.base !== base) {
    throw new Error(`these bytes are no WAL segment that starts at ${formatLsn(base)}`)
  }
  const pages = openSegmentPages(segment, header, next)
  const end = before === undefined ? segment.length : Math.min(segment.length, Number(before - base))
  let last: Scanned | undefined
  let oneBefore: Scanned | undefined
  let unfinished: number | undefined
  let at = options.from ?? pages.firstRecord(0)
  while (at !== undefined && at < end) {
    if (at % pages.pageBytes === 0) {
      at = pages.firstRecord(at)
      continue
    }
    const length = segment.readUInt32LE(at)
    if (length < RECORD_HEADER_BYTES || length > MAX_RECORD_BYTES) break
    const found = pages.follow(at, length)
    if (found.kind === 'invalid') break
    if (found.kind === 'overwritten') {
      at = found.page < segment.length ? pages.firstRecord(found.page) : undefined
      continue
    }
    // A header over two pages is worth the copy: there are few.
    const isHeaderHere = pages.pageEnd(at) - at >= RECORD_HEADER_BYTES
    const head = isHeaderHere ? segment : pages.gather(at, length, RECORD_HEADER_BYTES)
    const headAt = isHeaderHere ? at : 0
    const info = head[headAt + 16] ?? 0
    const resourceManager = head[headAt + 17] ?? 0
    if (found.kind === 'incomplete') {
      const isHeadKnown = head.length - headAt >= RECORD_HEADER_BYTES
      if (!isHeadKnown || wanted(resourceManager, info)) unfinished = at
      break
    }
    // A record that an earlier use of the file left behind does not name this one as its predecessor.
    if (last !== undefined && head.readBigUInt64LE(headAt + 8) !== base + BigInt(last.start)) break
    const isSwitch = resourceManager === RM_XLOG && (info & 0xf0) === XLOG_SWITCH
    const checked = isSwitch || wanted(resourceManager, info)
    if (checked) {
      const bytes = pages.gather(at, length)
      if (!hasValidCrc(bytes)) break
      const lsn = base + BigInt(at)
      visit({ lsn, end: base + BigInt(found.end), xid: bytes.readUInt32LE(4), resourceManager, info, bytes })
    }
    oneBefore = last
    last = { start: at, length, end: found.end, checked }
    if (isSwitch) break
    at = alignRecord(found.end)
  }
  const valid = isValid(pages, last) ? last : oneBefore
  return {
    lastStart: valid && base + BigInt(valid.start),
    lastEnd: valid && base + BigInt(valid.end),
    unfinished,
  }
}

/** The last record of a segment is the only one whose CRC decides something even where the record is not wanted. */
const isValid = (pages: SegmentPages, last: Scanned | undefined) =>
  last === undefined || last.checked || hasValidCrc(pages.gather(last.start, last.length))

const hasValidCrc = (bytes: Buffer) =>
  crc32c(bytes.subarray(RECORD_HEADER_BYTES), bytes.subarray(0, 20)) === bytes.readUInt32LE(20)
