/**
 * The pages of one WAL segment: its header, where records begin, and the bytes of a record that spans pages. Pure. What
 * records there are is scan-segment.ts, what they mean is wal-records.ts.
 *
 * Facts, the same for PostgreSQL 10 to 18 (access/xlog_internal.h, access/xlogrecord.h, access/transam/xlogreader.c):
 * a segment is pages of `xlp_xlog_blcksz` bytes; each begins with XLogPageHeaderData (24 bytes when aligned: u16 magic,
 * u16 info, u32 timeline, u64 address, u32 remaining length of the record that continues here), the first one with
 * XLogLongPageHeaderData (and u64 system identifier, u32 segment size, u32 page size; 40 bytes). A record begins at a
 * multiple of 8, and continues after the header of the next page.
 */

export interface SegmentHeader {
  /** Where the segment starts. */
  readonly base: bigint
  readonly timeline: number
  readonly systemIdentifier: bigint
  readonly segmentBytes: number
  readonly pageBytes: number
}

/** XLOG_PAGE_MAGIC of PostgreSQL 10; that of 18 is 0xD118. The layout after it has long been the same. */
const FIRST_MAGIC = 0xd097
const LAST_MAGIC = 0xd1ff
const CONTINUES = 0x0001
const LONG_HEADER = 0x0002
const HEADER_BYTES = 24
const LONG_HEADER_BYTES = 40

/** Undefined: these bytes do not begin a WAL segment of a known version. */
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

/** What following a record over its pages leads to. Offsets are in the segment; beyond its end they are in the next. */
export type RecordEnd =
  | { readonly kind: 'complete'; readonly end: number }
  /** The rest of it is beyond the bytes that are there. */
  | { readonly kind: 'incomplete' }
  /** A page on its way is not valid, or does not continue it: the WAL ends before the record. */
  | { readonly kind: 'invalid' }
  /** The server crashed while writing it, and began another record at `page` (XLP_FIRST_IS_OVERWRITE_CONTRECORD). */
  | { readonly kind: 'overwritten'; readonly page: number }

export interface SegmentPages {
  readonly pageBytes: number
  /** Where the page that holds `offset` ends. */
  pageEnd(offset: number): number
  /** Where the first record of the page at `offset` or a later one starts; undefined: none does in this segment. */
  firstRecord(offset: number): number | undefined
  /** Follows the `length` bytes of a record from `start` over its pages. */
  follow(start: number, length: number): RecordEnd
  /** The first `bytes` of a record of `length`, as many of them as are there; a view where they are in one page. */
  gather(start: number, length: number, bytes?: number): Buffer
}

/**
 * @param header of `segment`, as `readSegmentHeader` gives it
 * @param next the first pages of the next segment, into which the last record may reach
 */
export function openSegmentPages(
  segment: Buffer,
  { base, pageBytes }: SegmentHeader,
  next: Buffer | undefined,
): SegmentPages {
  const limit = segment.length + (next?.length ?? 0)
  const bufferAt = (offset: number) => (offset < segment.length ? segment : (next ?? segment))
  const within = (offset: number) => (offset < segment.length ? offset : offset - segment.length)
  const pageEnd = (offset: number) => (Math.floor(offset / pageBytes) + 1) * pageBytes

  /** Header length of the page at `offset`, and how much of an earlier record continues there; undefined: no valid page. */
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

  /** As `follow`, and calls `piece` with each part of the record that is in one page. */
  function walk(start: number, length: number, piece?: (offset: number, bytes: number) => void): RecordEnd {
    let at = start
    for (let left = length; ; ) {
      const bytes = Math.min(left, pageEnd(at) - at)
      piece?.(at, bytes)
      left -= bytes
      at += bytes
      if (left === 0) return { kind: 'complete', end: at }
      if (at >= limit) return { kind: 'incomplete' }
      const found = page(at)
      if (found === undefined) return { kind: 'invalid' }
      if (found.rest === 0) return { kind: 'overwritten', page: at }
      if (found.rest !== left) return { kind: 'invalid' }
      at += found.bytes
    }
  }

  return {
    pageBytes,
    pageEnd,
    firstRecord(offset) {
      for (let at = offset; at < segment.length; at += pageBytes) {
        const found = page(at)
        if (found === undefined) return undefined
        if (found.rest <= pageBytes - found.bytes) return alignRecord(at + found.bytes + found.rest)
      }
      return undefined
    },
    follow: (start, length) => walk(start, length),
    gather(start, length, bytes = length) {
      const pieces: Buffer[] = []
      let left = bytes
      walk(start, length, (offset, here) => {
        const at = within(offset)
        if (left > 0) pieces.push(bufferAt(offset).subarray(at, at + Math.min(here, left)))
        left -= here
      })
      const [only] = pieces
      return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces)
    },
  }
}

/** Records begin at multiples of 8 (MAXALIGN). */
export const alignRecord = (offset: number): number => Math.ceil(offset / 8) * 8
