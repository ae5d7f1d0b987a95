/**
 * backup_manifest (PostgreSQL's "Backup Manifest Format"): the files of a backup with sizes and checksums. Bounded and
 * untrusted.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { decodeName } from '../../../dataplane/protocol/file-names.ts'
import type { Checksum } from '../../decode/checksum.ts'
import { nextTurn, runInTurns } from '../turns.ts'
import { readIfExists } from './backup-files.ts'
import { MalformedEntries, visitEntries } from './manifest-entries.ts'

/** Enough for about 2 million files. */
const MANIFEST_BYTES = 400 * 1024 * 1024

export interface ManifestEntry {
  readonly size: number
  readonly checksum: Checksum | undefined
}

export interface BackupManifest {
  /** For messages. */
  readonly path: string
  /** By path below PGDATA (`pg_tblspc/<oid>/…` for tablespaces); empty where they were not wanted. */
  readonly files: ReadonlyMap<string, ManifestEntry>
  readonly bytes: number
  readonly walRange: { readonly timeline: number; readonly start: string; readonly end: string } | undefined
  readonly systemIdentifier: string | undefined
  readonly startedAt: string | undefined
}

/**
 * @param files whether to keep its files, which may be a million
 * @throws HowdahError `backup_damaged` | `repository_unavailable`; undefined when it does not exist
 */
export async function readBackupManifest(
  directory: string,
  { files = true } = {},
): Promise<BackupManifest | undefined> {
  const path = join(directory, 'backup_manifest')
  const bytes = await readIfExists(path, MANIFEST_BYTES)
  return bytes === undefined ? undefined : parseBackupManifest(bytes, path, { files })
}

/** Bytes hashed between two turns of others. */
const HASHED_BYTES = 4 * 1024 * 1024

/**
 * Runs in turns with other work of the event loop.
 * @param from names the manifest in messages
 * @throws HowdahError `backup_damaged`
 */
export async function parseBackupManifest(
  bytes: Buffer,
  from: string,
  { files: keepsFiles = true } = {},
): Promise<BackupManifest> {
  const wrong = (finding: string, cause?: unknown) =>
    new HowdahError('backup_damaged', `${from} ${finding}`, { cause })
  const files = new Map<string, ManifestEntry>()
  let total = 0
  let startedAt: string | undefined

  function add(entry: Record<string, unknown>): void {
    const { Path, 'Encoded-Path': encoded, Size, 'Last-Modified': modified } = entry
    const name = typeof encoded === 'string' ? decodedPath(encoded) : Path
    if (typeof name !== 'string' || typeof Size !== 'number' || !Number.isSafeInteger(Size) || Size < 0) {
      throw wrong('has an entry without path or size')
    }
    if (keepsFiles) files.set(name, { size: Size, checksum: checksumIn(entry) })
    total += Size
    if (name === 'backup_label' && typeof modified === 'string') startedAt = gmt(modified)
  }

  await requireChecksum(bytes, wrong)
  const rest = await withoutEntries(bytes, add, wrong)
  const ranges = Array.isArray(rest['WAL-Ranges']) ? (rest['WAL-Ranges'] as Record<string, unknown>[]) : []
  const { Timeline: timeline, 'Start-LSN': start, 'End-LSN': end } = ranges.at(-1) ?? {}
  return {
    path: from,
    files,
    bytes: total,
    walRange:
      typeof timeline === 'number' && isLsn(start) && isLsn(end) ? { timeline, start, end } : undefined,
    systemIdentifier: /"System-Identifier":\s*(\d{1,20})[,\s]/.exec(bytes.toString('latin1', 0, 1024))?.[1],
    startedAt,
  }
}

type Wrong = (finding: string, cause?: unknown) => HowdahError

/** The manifest's other members. @throws HowdahError `backup_damaged` */
async function withoutEntries(
  bytes: Buffer,
  visit: (entry: Record<string, unknown>) => void,
  wrong: Wrong,
): Promise<Record<string, unknown>> {
  try {
    const rest = await runInTurns(visitEntries(bytes, visit))
    if (rest === undefined) throw wrong('lists no files')
    return JSON.parse(rest) as Record<string, unknown>
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof MalformedEntries)
      throw wrong('is no JSON, so it is not complete', error)
    throw error
  }
}

/** Its own checksum is over all lines before the one that has it. @throws HowdahError `backup_damaged` */
async function requireChecksum(bytes: Buffer, wrong: Wrong): Promise<void> {
  const own = bytes.lastIndexOf('"Manifest-Checksum"')
  if (own < 0) throw wrong('has no checksum of its own, so it is not complete')
  const [, stated] =
    /^"Manifest-Checksum": *"([0-9a-f]{64})"/.exec(bytes.toString('latin1', own, own + 100)) ?? []
  const hashed = bytes.subarray(0, bytes.lastIndexOf(10, own) + 1)
  const hash = createHash('sha256')
  for (let at = 0; at < hashed.length; at += HASHED_BYTES) {
    if (at > 0) await nextTurn()
    hash.update(hashed.subarray(at, at + HASHED_BYTES))
  }
  if (hash.digest('hex') !== stated)
    throw wrong('does not match its own checksum, so it was changed or damaged')
}

/** Decodes a name that is not UTF-8. */
function decodedPath(hex: string): string {
  const bytes = Buffer.from(hex, 'hex')
  return decodeName(bytes, 0, bytes.length)
}

const ALGORITHMS: Readonly<Record<string, Checksum['algorithm']>> = {
  CRC32C: 'crc32c',
  SHA224: 'sha224',
  SHA256: 'sha256',
  SHA384: 'sha384',
  SHA512: 'sha512',
}

function checksumIn({
  'Checksum-Algorithm': name,
  Checksum: hex,
}: Record<string, unknown>): Checksum | undefined {
  const algorithm = typeof name === 'string' ? ALGORITHMS[name] : undefined
  return algorithm !== undefined && typeof hex === 'string' && /^[0-9a-f]{8,128}$/.test(hex)
    ? { algorithm, hex }
    : undefined
}

const isLsn = (value: unknown): value is string =>
  typeof value === 'string' && /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(value)

function gmt(text: string): string | undefined {
  const [, date, time] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) GMT$/.exec(text) ?? []
  return date === undefined ? undefined : `${date}T${time}.000Z`
}
