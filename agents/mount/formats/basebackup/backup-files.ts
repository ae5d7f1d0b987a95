/**
 * The small files by which a plain pg_basebackup directory tells what it is: PG_VERSION, backup_label,
 * backup_manifest, pg_control. All bounded, all untrusted.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'

const SMALL_BYTES = 64 * 1024
const MANIFEST_BYTES = 1024 ** 3

/** @throws HowdahError `backup_damaged` for one that is too large, `repository_unavailable`; undefined when there is none */
export async function readIfThere(path: string, maxBytes = SMALL_BYTES): Promise<Buffer | undefined> {
  try {
    const { size } = await stat(path)
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
}

/** backup_label (PostgreSQL's xlogbackup.c). @throws HowdahError `backup_damaged` */
export function parseBackupLabel(text: string, path: string): BackupLabel {
  const [, startLsn, startWal] =
    /^START WAL LOCATION: ([0-9A-F]{1,8}\/[0-9A-F]{1,8}) \(file ([0-9A-F]{24})\)$/m.exec(text) ?? []
  if (startLsn === undefined || startWal === undefined) {
    throw new HowdahError('backup_damaged', `${path} does not say where its WAL starts`)
  }
  // Other zones are abbreviations that nobody can resolve for certain.
  const [, at] = /^START TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)$/m.exec(text) ?? []
  return {
    startLsn,
    startWal,
    timeline: Number.parseInt(startWal.slice(0, 8), 16),
    startedAt: at === undefined ? undefined : `${at.replace(' ', 'T')}.000Z`,
  }
}

export interface BackupManifest {
  /** Path below PGDATA (`pg_tblspc/<oid>/…` for tablespaces) → bytes. */
  readonly sizes: ReadonlyMap<string, number>
  readonly bytes: number
  readonly walRange: { readonly timeline: number; readonly start: string; readonly end: string } | undefined
  readonly systemIdentifier: string | undefined
  readonly startedAt: string | undefined
}

/** backup_manifest (PostgreSQL's "Backup Manifest Format"). @throws HowdahError `backup_damaged` | `backup_unsupported` */
export async function readBackupManifest(directory: string): Promise<BackupManifest | undefined> {
  const path = join(directory, 'backup_manifest')
  const bytes = await readIfThere(path, MANIFEST_BYTES)
  return bytes === undefined ? undefined : parseBackupManifest(bytes.toString('utf8'), path)
}

interface RawManifest {
  'PostgreSQL-Backup-Manifest-Version'?: unknown
  Files?: Record<string, unknown>[]
  'WAL-Ranges'?: Record<string, unknown>[]
}

function parseBackupManifest(text: string, path: string): BackupManifest {
  const wrong = (finding: string, cause?: unknown) =>
    new HowdahError('backup_damaged', `${path} ${finding}`, { cause })
  let raw: RawManifest
  try {
    raw = JSON.parse(text) as RawManifest
  } catch (error) {
    throw wrong('is no JSON, so it is not complete', error)
  }
  if (!Array.isArray(raw.Files)) throw wrong('lists no files')
  const sizes = new Map<string, number>()
  let total = 0
  let startedAt: string | undefined
  for (const { Path, 'Encoded-Path': encoded, Size, 'Last-Modified': modified } of raw.Files) {
    const name = typeof encoded === 'string' ? Buffer.from(encoded, 'hex').toString('utf8') : Path
    if (typeof name !== 'string' || typeof Size !== 'number' || !Number.isSafeInteger(Size) || Size < 0) {
      throw wrong('has an entry without path or size')
    }
    sizes.set(name, Size)
    total += Size
    if (name === 'backup_label' && typeof modified === 'string') startedAt = gmt(modified)
  }
  const ranges = Array.isArray(raw['WAL-Ranges']) ? raw['WAL-Ranges'] : []
  const { Timeline: timeline, 'Start-LSN': start, 'End-LSN': end } = ranges.at(-1) ?? {}
  return {
    sizes,
    bytes: total,
    walRange:
      typeof timeline === 'number' && isLsn(start) && isLsn(end) ? { timeline, start, end } : undefined,
    systemIdentifier: /"System-Identifier":\s*(\d{1,20})[,\s]/.exec(text.slice(0, 1024))?.[1],
    startedAt,
  }
}

const isLsn = (value: unknown): value is string =>
  typeof value === 'string' && /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(value)

function gmt(text: string): string | undefined {
  const [, date, time] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) GMT$/.exec(text) ?? []
  return date === undefined ? undefined : `${date}T${time}.000Z`
}

/** The system identifier: the first 64 bits of pg_control (catalog/pg_control.h), little-endian as all that Howdah runs on. */
export function systemIdentifierOf(control: Buffer | undefined): string | undefined {
  return control === undefined || control.length < 8 ? undefined : control.readBigUInt64LE(0).toString()
}

/** The segment that holds the byte before `lsn` (XLByteToPrevSeg of PostgreSQL's xlog_internal.h). */
export function segmentBefore(lsn: string, timeline: number, segmentBytes: number): string {
  const [high = '0', low = '0'] = lsn.split('/')
  const position = (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`) - 1n
  const number = position / BigInt(segmentBytes)
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes)
  const hex = (value: bigint) => value.toString(16).toUpperCase().padStart(8, '0')
  return hex(BigInt(timeline)) + hex(number / perLog) + hex(number % perLog)
}
