/** Whether a data page is what PostgreSQL wrote, as far as a backup shows. */
import { PAGE_BYTES, pageChecksum } from './page-checksum.ts'

/** Positions in the WAL between which the backup was taken. */
export interface BackupSpan {
  readonly start: bigint
  /** Undefined: not known. */
  readonly stop: bigint | undefined
}

/** Offsets of pd_lsn, pd_checksum and pd_upper in PageHeaderData (storage/bufpage.h). */
const LSN = 0
const CHECKSUM = 8
const UPPER = 14

const ZEROS = Buffer.alloc(PAGE_BYTES)

/**
 * What is wrong with a page; undefined when nothing is. A page that was written while the backup was taken may be torn;
 * replay restores it (pg_basebackup does not check these either, backup/basebackup.c). A page that was never written is
 * all zeros.
 * @param pages holds the page, PAGE_BYTES from `offset` on
 * @param block number of the block in its relation
 */
export function checkPage(
  pages: Buffer,
  offset: number,
  block: number,
  { start, stop }: BackupSpan,
): string | undefined {
  if (pages.readUInt16LE(offset + UPPER) === 0) {
    const isNew = pages.compare(ZEROS, 0, PAGE_BYTES, offset, offset + PAGE_BYTES) === 0
    if (isNew) return undefined
  } else {
    const stored = pages.readUInt16LE(offset + CHECKSUM)
    const computed = pageChecksum(pages, offset, block)
    if (stored === computed) return undefined
    if (isReplayed(lsnAt(pages, offset + LSN))) return undefined
    return `its checksum is ${stored}, and of what it holds ${computed}`
  }
  return 'it has no contents by its header, and is not empty'

  function isReplayed(lsn: bigint): boolean {
    // No page in the backup can be newer than its end: such an LSN is damage itself.
    return lsn >= start && (stop === undefined || lsn <= stop)
  }
}

/** PageXLogRecPtr: the upper half comes first. */
const lsnAt = (pages: Buffer, offset: number) =>
  (BigInt(pages.readUInt32LE(offset)) << 32n) | BigInt(pages.readUInt32LE(offset + 4))
