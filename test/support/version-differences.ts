/** What tests must know of differences between versions of PostgreSQL, pgBackRest and Barman. */
import { POSTGRES_MAJOR } from './installed-postgres.ts'

/**
 * A backup that ends with its segment seems to end in the next one, for which Barman waits; on a quiet server it is never
 * filled. Source: release notes of PostgreSQL 17, pg_walfile_name.
 */
export const SEGMENT_AFTER_BACKUP_IS_AWAITED = Number(POSTGRES_MAJOR) >= 17

const CHECKPOINT = { offset: 32, bytes: 8 }
const NO_CHECKPOINT = 0xdeadn
const CHECKSUM_BYTES = 4

/**
 * Whether a file of a backup is what the tool restored. In pg_control newer releases of pgBackRest put an LSN that no WAL
 * has in place of the last checkpoint, so that no server starts without the backup's label, and the checksum for it.
 */
export function isAsRestored(path: string, stored: Buffer, restored: Buffer): boolean {
  if (stored.equals(restored)) return true
  if (path !== 'data/global/pg_control' || stored.length !== restored.length) return false
  if (restored.readBigUInt64LE(CHECKPOINT.offset) !== NO_CHECKPOINT) return false
  const end = CHECKPOINT.offset + CHECKPOINT.bytes
  const others = [...stored.keys()].filter(
    (at) => stored[at] !== restored[at] && (at < CHECKPOINT.offset || at >= end),
  )
  return (others.at(-1) ?? 0) - (others.at(0) ?? 0) < CHECKSUM_BYTES
}
