/** Scanning WAL that the test writes record by record: what a segment's pages, crashes and torn writes do to it. */
import { expect } from 'chai'
import { crc32c } from '../../agents/wal/crc32c.ts'
import { type Scan, type ScanOptions, scanSegment, type WalRecord } from '../../agents/wal/scan-segment.ts'
import { readSegmentHeader } from '../../agents/wal/wal-pages.ts'

const SEGMENT_BYTES = 1024 * 1024
const PAGE_BYTES = 8192
const BASE = 5n * BigInt(SEGMENT_BYTES)
const RM_XLOG = 0
const RM_XACT = 1
const XLOG_SWITCH = 0x40

/** Writes two segments as PostgreSQL does, a record after the other. */
class WalWriter {
  readonly bytes = Buffer.alloc(2 * SEGMENT_BYTES)
  #at = 0
  #previous = 0n
  #beforePrevious = 0n

  /** @param payload bytes after the record's header @returns where the record starts */
  append(payload: number, manager = RM_XACT, info = 0): bigint {
    const length = 24 + payload
    const record = Buffer.alloc(length, 0x5a)
    if (this.#at % PAGE_BYTES === 0) this.#page(0)
    const start = this.#at
    record.writeUInt32LE(length, 0)
    record.writeUInt32LE(700, 4)
    record.writeBigUInt64LE(this.#previous, 8)
    record[16] = info
    record[17] = manager
    record.writeUInt32LE(crc32c(record.subarray(24), record.subarray(0, 20)), 20)
    this.#beforePrevious = this.#previous
    this.#previous = BASE + BigInt(start)
    for (let done = 0; done < length; ) {
      if (this.#at % PAGE_BYTES === 0) this.#page(length - done)
      const here = Math.min(length - done, PAGE_BYTES - (this.#at % PAGE_BYTES))
      record.copy(this.bytes, this.#at, done, done + here)
      this.#at += here
      done += here
    }
    this.#at = Math.ceil(this.#at / 8) * 8
    return BASE + BigInt(start)
  }

  /** Loses the last page of the last record, as a crash does: the next record begins there (XLOG_OVERWRITE_CONTRECORD). */
  crash(): void {
    this.#at = Math.floor((this.#at - 1) / PAGE_BYTES) * PAGE_BYTES
    this.bytes.fill(0, this.#at)
    this.#previous = this.#beforePrevious
  }

  get segment(): Buffer {
    return this.bytes.subarray(0, SEGMENT_BYTES)
  }

  get next(): Buffer {
    return this.bytes.subarray(SEGMENT_BYTES)
  }

  #page(rest: number): void {
    const isFirst = this.#at % SEGMENT_BYTES === 0
    this.bytes.writeUInt16LE(0xd110, this.#at)
    this.bytes.writeUInt16LE((rest > 0 ? 1 : 0) | (isFirst ? 2 : 0), this.#at + 2)
    this.bytes.writeUInt32LE(1, this.#at + 4)
    this.bytes.writeBigUInt64LE(BASE + BigInt(this.#at), this.#at + 8)
    this.bytes.writeUInt32LE(rest, this.#at + 16)
    if (isFirst) {
      this.bytes.writeBigUInt64LE(42n, this.#at + 24)
      this.bytes.writeUInt32LE(SEGMENT_BYTES, this.#at + 32)
      this.bytes.writeUInt32LE(PAGE_BYTES, this.#at + 36)
    }
    this.#at += isFirst ? 40 : 24
  }
}

function scan(wal: WalWriter, options: Partial<ScanOptions> = {}): Scan & { readonly records: WalRecord[] } {
  const records: WalRecord[] = []
  const found = scanSegment(wal.segment, {
    base: BASE,
    wanted: (manager) => manager === RM_XACT,
    visit: (record) => records.push(record),
    ...options,
  })
  return { ...found, records }
}

describe('scanning a WAL segment', () => {
  let wal: WalWriter
  beforeEach(() => {
    wal = new WalWriter()
  })

  it('reads its size and cluster from its header, and refuses bytes that begin no segment', () => {
    wal.append(8)
    expect(readSegmentHeader(wal.segment)).to.deep.equal({
      base: BASE,
      timeline: 1,
      systemIdentifier: 42n,
      segmentBytes: SEGMENT_BYTES,
      pageBytes: PAGE_BYTES,
    })
    expect(readSegmentHeader(Buffer.alloc(PAGE_BYTES))).to.equal(undefined)
    expect(() => scan(wal, { base: 0n })).to.throw('no WAL segment that starts at 0/0')
  })

  it('visits every wanted record, also those that span pages or have a header that does', () => {
    // 16 bytes before a page's end, a record's header of 24 bytes does not fit.
    const lengths = [100, PAGE_BYTES - 24 - 40 - 128 - 16 - 24, 40, 3 * PAGE_BYTES, 8]
    const starts = lengths.map((length) => wal.append(length))
    const other = wal.append(8, RM_XLOG)
    const { records, lastStart } = scan(wal)
    expect(records.map(({ lsn }) => lsn)).to.deep.equal(starts)
    expect(records.map(({ bytes }) => bytes.length)).to.deep.equal(lengths.map((length) => length + 24))
    expect(lastStart).to.equal(other)
  })

  it('ends at a record that does not match its checksum, whether or not it is wanted', () => {
    const first = wal.append(100)
    const torn = wal.append(100, RM_XLOG)
    const at = Number(torn - BASE) + 60
    wal.bytes[at] = 0
    expect(scan(wal)).to.deep.include({ lastStart: first, unfinished: undefined })
    expect(scan(wal, { wanted: () => true }).lastStart).to.equal(first)
  })

  it('ends before a record that an earlier use of the file left there', () => {
    const first = wal.append(100)
    const stale = wal.append(100)
    wal.bytes.writeBigUInt64LE(1n, Number(stale - BASE) + 8)
    expect(scan(wal).lastStart).to.equal(first)
  })

  it('continues after a record that a crash cut off', () => {
    const first = wal.append(100)
    wal.append(2 * PAGE_BYTES)
    wal.crash()
    const next = wal.append(50)
    const { records, lastStart } = scan(wal)
    expect(records.map(({ lsn }) => lsn)).to.deep.equal([first, next])
    expect(lastStart).to.equal(next)
  })

  it('ends with a switch record: what follows in the segment is no WAL', () => {
    wal.append(100)
    const end = wal.append(0, RM_XLOG, XLOG_SWITCH)
    wal.append(100)
    expect(scan(wal).lastStart).to.equal(end)
  })

  it('names the record that reaches into the next segment, and completes it with that one', () => {
    const first = wal.append(SEGMENT_BYTES - 20 * PAGE_BYTES)
    const last = wal.append(30 * PAGE_BYTES)
    const alone = scan(wal)
    expect(alone).to.deep.include({ lastStart: first, unfinished: Number(last - BASE) })
    const both = scan(wal, { next: wal.next, from: alone.unfinished ?? 0 })
    expect(both).to.deep.include({ lastStart: last, unfinished: undefined })
    expect(both.records.map(({ lsn }) => lsn)).to.deep.equal([last])
  })

  it('ends where the next timeline begins', () => {
    const first = wal.append(100)
    const other = wal.append(100)
    expect(scan(wal, { before: other }).lastStart).to.equal(first)
  })
})
