/**
 * Interprets the WAL records at which recovery can stop: ends of transactions and restore points. Pure.
 *
 * Facts, the same for PostgreSQL 10 to 18 (access/xact.h, access/rmgrlist.h, catalog/pg_control.h,
 * access/xlog_internal.h): resource manager 1 is transactions; its operation is `info & 0x70`: commit 0x00, abort 0x20,
 * commit prepared 0x30, abort prepared 0x40, and the main data begin with TimestampTz xact_time. With `info & 0x80`
 * follow u32 xinfo and the parts that it announces, among them the xid of a prepared transaction. Resource manager 0
 * with `info & 0xF0` = 0x70 is xl_restore_point: TimestampTz, then the name in 64 bytes. TimestampTz is microseconds
 * since 2000-01-01 UTC.
 */
import type { WalRecord } from './scan-segment.ts'

export type RecoveryStop =
  | {
      readonly kind: 'commit' | 'abort'
      readonly lsn: bigint
      /** Microseconds since 1970-01-01 UTC. */
      readonly time: number
      readonly xid: number
    }
  | { readonly kind: 'point'; readonly lsn: bigint; readonly time: number; readonly name: string }

const RM_XLOG = 0
const RM_XACT = 1
const XLOG_BACKUP_END = 0x50
const XLOG_RESTORE_POINT = 0x70
const OPERATION = 0x70
const COMMIT = 0x00
const ABORT = 0x20
const COMMIT_PREPARED = 0x30
const ABORT_PREPARED = 0x40
const HAS_INFO = 0x80

/** Microseconds from 1970 to 2000. */
const EPOCH = 946_684_800_000_000n
const RECORD_HEADER_BYTES = 24

/** Whether `recoveryStop` interprets such records. */
export function isStop(resourceManager: number, info: number): boolean {
  if (resourceManager === RM_XLOG) return (info & 0xf0) === XLOG_RESTORE_POINT
  if (resourceManager !== RM_XACT) return false
  const operation = info & OPERATION
  return (
    operation === COMMIT ||
    operation === ABORT ||
    operation === COMMIT_PREPARED ||
    operation === ABORT_PREPARED
  )
}

export function recoveryStop(record: WalRecord): RecoveryStop | undefined {
  const { resourceManager, info, lsn } = record
  if (!isStop(resourceManager, info)) return undefined
  const data = mainData(record.bytes)
  if (data === undefined || data.length < 8) return undefined
  const time = Number(data.readBigInt64LE(0) + EPOCH)
  if (resourceManager === RM_XLOG) {
    const end = data.indexOf(0, 8)
    return { kind: 'point', lsn, time, name: data.toString('utf8', 8, end < 0 ? data.length : end) }
  }
  const operation = info & OPERATION
  const isPrepared = operation === COMMIT_PREPARED || operation === ABORT_PREPARED
  const xid = isPrepared ? (preparedXid(data, info) ?? record.xid) : record.xid
  return { kind: operation === COMMIT || operation === COMMIT_PREPARED ? 'commit' : 'abort', lsn, time, xid }
}

/** Whether `endedBackup` interprets such records. */
export const isBackupEnd = (resourceManager: number, info: number): boolean =>
  resourceManager === RM_XLOG && (info & 0xf0) === XLOG_BACKUP_END

/** The start of the backup that this record ends (xlog_redo: XLOG_BACKUP_END contains it). */
export function endedBackup(record: WalRecord): bigint | undefined {
  if (!isBackupEnd(record.resourceManager, record.info)) return undefined
  const data = mainData(record.bytes)
  return data === undefined || data.length < 8 ? undefined : data.readBigUInt64LE(0)
}

/** The main data after the headers of a record without blocks (access/xlogrecord.h: XLR_BLOCK_ID_*). */
export function mainData(bytes: Buffer): Buffer | undefined {
  for (let at = RECORD_HEADER_BYTES; at + 2 <= bytes.length; ) {
    switch (bytes[at]) {
      case 255:
        return lastOf(bytes, bytes[at + 1] ?? 0)
      case 254:
        return at + 5 <= bytes.length ? lastOf(bytes, bytes.readUInt32LE(at + 1)) : undefined
      case 253: // replication origin
        at += 3
        break
      case 252: // top-level xid
        at += 5
        break
      default:
        return undefined
    }
  }
  return undefined
}

const lastOf = (bytes: Buffer, length: number) =>
  length <= bytes.length - RECORD_HEADER_BYTES ? bytes.subarray(bytes.length - length) : undefined

/**
 * xl_xact_twophase comes after everything of variable length but the GID and the origin (ParseCommitRecord of
 * access/rmgrdesc/xactdesc.c). Undefined where an entry has a size that differs by version.
 */
function preparedXid(data: Buffer, info: number): number | undefined {
  if ((info & HAS_INFO) === 0 || data.length < 12) return undefined
  const has = data.readUInt32LE(8)
  let at = 12
  const skip = (bit: number, bytes: number) => {
    if ((has & (1 << bit)) !== 0) at += bytes
  }
  const skipList = (bit: number, bytes: number) => {
    if ((has & (1 << bit)) === 0) return
    at = at + 4 <= data.length ? at + 4 + data.readUInt32LE(at) * bytes : data.length
  }
  skip(0, 8)
  skipList(1, 4)
  skipList(2, 12)
  if ((has & (1 << 8)) !== 0) return undefined
  skipList(3, 16)
  return (has & (1 << 4)) !== 0 && at + 4 <= data.length ? data.readUInt32LE(at) : undefined
}
