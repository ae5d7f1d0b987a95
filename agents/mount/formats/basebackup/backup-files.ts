/**
 * Parses the small files that describe a copy of a cluster: PG_VERSION, backup_label, tablespace_map, pg_control. All
 * are bounded and untrusted.
 */
import { lstat, readFile } from 'node:fs/promises'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'

const SMALL_BYTES = 64 * 1024

/** @throws HowdahError `backup_damaged` for one that is too large, `repository_unavailable`; undefined when it does not exist */
export async function readIfExists(path: string, maxBytes = SMALL_BYTES): Promise<Buffer | undefined> {
  try {
    const found = await lstat(path)
    if (!found.isFile()) throw new HowdahError('backup_damaged', `${path} is not a regular file`)
    const { size } = found
    if (size > maxBytes)
      throw new HowdahError('backup_damaged', `${path} has ${size} bytes, which is too large`)
    return await readFile(path)
  } catch (error) {
    if (!isSystemError(error)) throw error
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw new HowdahError('repository_unavailable', `${path} cannot be read: ${error.code}`, { cause: error })
  }
}

export interface BackupLabel {
  readonly startLsn: string
  readonly startWal: string
  readonly timeline: number
  readonly startedAt: string | undefined
  /** Of an incremental backup: where its parent began. */
  readonly from: { readonly lsn: string; readonly timeline: number } | undefined
}

/** backup_label (PostgreSQL's xlogbackup.c). @throws HowdahError `backup_damaged` */
export function parseBackupLabel(text: string, path: string): BackupLabel {
  const [, startLsn, startWal] =
    /^START WAL LOCATION: ([0-9A-F]{1,8}\/[0-9A-F]{1,8}) \(file ([0-9A-F]{24})\)$/m.exec(text) ?? []
  if (startLsn === undefined || startWal === undefined) {
    throw new HowdahError('backup_damaged', `${path} does not say where its WAL starts`)
  }
  // Abbreviations of other time zones are ambiguous.
  const [, at] = /^START TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)$/m.exec(text) ?? []
  const [, fromLsn] = /^INCREMENTAL FROM LSN: ([0-9A-F]{1,8}\/[0-9A-F]{1,8})$/m.exec(text) ?? []
  const [, fromTimeline] = /^INCREMENTAL FROM TLI: (\d{1,10})$/m.exec(text) ?? []
  if ((fromLsn === undefined) !== (fromTimeline === undefined)) {
    throw new HowdahError('backup_damaged', `${path} does not say what it is incremental to`)
  }
  return {
    from: fromLsn === undefined ? undefined : { lsn: fromLsn, timeline: Number(fromTimeline) },
    startLsn,
    startWal,
    timeline: Number.parseInt(startWal.slice(0, 8), 16),
    startedAt: at === undefined ? undefined : `${at.replace(' ', 'T')}.000Z`,
  }
}

/**
 * tablespace_map, `<oid> <path>` per line, with line ends escaped by backslashes (xlogbackup.c, do_pg_backup_start).
 * @throws HowdahError `backup_damaged`
 */
export function parseTablespaceMap(text: string, path: string): { oid: string; target: string }[] {
  const found: { oid: string; target: string }[] = []
  for (const [line] of text.matchAll(/(?:\\[\s\S]|[^\\\n])+/g)) {
    const [, oid, target] = /^(\d{1,10}) ([\s\S]+)$/.exec(line) ?? []
    if (oid === undefined || target === undefined) {
      throw new HowdahError('backup_damaged', `${path} has a line that names no tablespace`)
    }
    found.push({ oid, target: target.replace(/\\([\s\S])/g, '$1') })
  }
  return found
}

/** The system identifier: the first 64 bits of pg_control (catalog/pg_control.h), little-endian on all supported machines. */
export function systemIdentifierOf(control: Buffer | undefined): string | undefined {
  return control === undefined || control.length < 8 ? undefined : control.readBigUInt64LE(0).toString()
}

/**
 * When pg_control was last written, before the backup ended: `pg_time_t time` follows the state in every version
 * (catalog/pg_control.h). Undefined for an impossible time.
 */
export function controlTimeOf(control: Buffer | undefined): string | undefined {
  if (control === undefined || control.length < 32) return undefined
  const seconds = control.readBigInt64LE(24)
  return seconds > 0n && seconds < 253_402_300_800n
    ? new Date(Number(seconds) * 1000).toISOString()
    : undefined
}
