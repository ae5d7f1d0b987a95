/**
 * WAL records that create tablespaces. Pure.
 *
 * Facts, the same for PostgreSQL 9.6 to 18 (access/rmgrlist.h, commands/tablespace.h): resource manager 5 is
 * tablespaces; `info & 0xF0` = 0 creates one, and its data are u32 OID and the location, which ends with a zero byte.
 * The location of one within the data directory ("in place") is empty.
 */
import type { WalRecord } from '../../wal/scan-segment.ts'
import { mainData } from '../../wal/wal-records.ts'

export interface CreatedTablespace {
  readonly oid: number
  /** Absolute path. */
  readonly location: string
  readonly lsn: bigint
}

const RM_TABLESPACE = 5
const CREATE = 0x00

export function isTablespaceCreation(resourceManager: number, info: number): boolean {
  return resourceManager === RM_TABLESPACE && (info & 0xf0) === CREATE
}

/** Undefined for other records, and for a tablespace within the data directory. */
export function createdTablespace({
  resourceManager,
  info,
  bytes,
  lsn,
}: WalRecord): CreatedTablespace | undefined {
  if (!isTablespaceCreation(resourceManager, info)) return undefined
  const data = mainData(bytes)
  if (data === undefined || data.length < 5) return undefined
  const end = data.indexOf(0, 4)
  const location = data.toString('utf8', 4, end < 0 ? data.length : end)
  return location === '' ? undefined : { oid: data.readUInt32LE(0), location, lsn }
}
