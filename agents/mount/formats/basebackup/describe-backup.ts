/** Describes a backup that pg_basebackup took: its parts on disk, and the summary that is listed. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { parseLsn, segmentBefore } from '../../../wal/lsn.ts'
import { type AllowedRoots, resolveAllowed } from '../../decode/allowed-roots.ts'
import { isSystemError, type StoredFile } from '../../decode/stored-file.ts'
import { headMembers } from './archive-head.ts'
import {
  type BackupLabel,
  controlTimeOf,
  parseBackupLabel,
  parseTablespaceMap,
  readIfExists,
  systemIdentifierOf,
} from './backup-files.ts'
import { type BackupManifest, readBackupManifest } from './backup-manifest.ts'
import { archivesIn, type Copy, type CopyReader, readMember } from './copy.ts'
import type { TablespaceLocation } from './copy-locations.ts'
import { linkedTablespaces } from './directory-tree.ts'

/** A backup's label and its directory. */
export interface BackupDirectory {
  readonly label: string
  readonly directory: string
}

export interface BackupDescription {
  readonly summary: BackupSummary
  /** Of an incremental backup: where its parent began. */
  readonly from: BackupLabel['from']
  readonly manifest: BackupManifest | undefined
  /** In tar format: its archives by name, such as `base` and `pg_wal`. */
  readonly archives: ReadonlyMap<string, StoredFile>
}

/** The default of `initdb --wal-segsize`. Bytes. */
const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024

/** Reads a small file of a backup by its path below PGDATA; undefined where it does not exist. */
type ReadSmall = (path: string) => Promise<Buffer | undefined>

/**
 * @param whole true: tar archives are read to their end if necessary, so that a missing file does not exist. false:
 *   only their beginning is read
 * @throws HowdahError `repository_unavailable`; what is wrong with the backup itself is its summary's `unusable`
 */
export async function describeBackup(
  roots: AllowedRoots,
  { label, directory }: BackupDirectory,
  reader: CopyReader,
  whole: boolean,
): Promise<BackupDescription> {
  let summary: BackupSummary = { label, type: 'full', postgresVersion: 'unknown' }
  let described: BackupDescription = { summary, from: undefined, manifest: undefined, archives: new Map() }
  const unusable = (reason: string): BackupDescription => ({
    ...described,
    summary: { ...summary, unusable: reason },
  })
  try {
    const isPlain = (await readdir(await resolveAllowed(roots, directory))).includes('PG_VERSION')
    const archives = isPlain ? new Map<string, StoredFile>() : await archivesIn(roots, directory, label)
    const base = archives.get('base')
    const read: ReadSmall = isPlain
      ? (path) => readIfExists(join(directory, path))
      : base === undefined
        ? async () => undefined
        : whole
          ? (path) => readMember(base, path, reader)
          : await headReader(base)
    const version = (await read('PG_VERSION'))?.toString().trim() ?? (await versionByName(archives))
    described = { ...described, archives }
    if (version !== undefined && /^\d{1,2}(\.\d)?$/.test(version))
      summary = { ...summary, postgresVersion: version }
    else if (isPlain || whole) return unusable('it has no valid PG_VERSION')
    const labelPath =
      base === undefined ? join(directory, 'backup_label') : `${base.region.path}:backup_label`
    const labelText = await read('backup_label')
    if (labelText === undefined) {
      return unusable(
        'it has no backup_label: PostgreSQL has been started on it, or it is a copy of files that is consistent as after a crash at best, and only if all of it is of one moment',
      )
    }
    const start = parseBackupLabel(labelText.toString(), labelPath)
    summary = {
      ...summary,
      type: start.from === undefined ? 'full' : 'incremental',
      startLsn: start.startLsn,
      startWal: start.startWal,
      timeline: start.timeline,
    }
    described = { ...described, from: start.from }
    const manifest = await readBackupManifest(directory, { files: whole })
    described = { ...described, manifest }
    if (isPlain) await linkedTablespaces(roots, directory)
    const control = isPlain || whole ? await read('global/pg_control') : undefined
    const systemIdentifier = manifest?.systemIdentifier ?? systemIdentifierOf(control)
    // The manifest has modification times of files, which may be those of copying.
    const startedAt = start.startedAt ?? controlTimeOf(control) ?? manifest?.startedAt
    const range = manifest?.walRange
    const segment = () => segmentBytes(directory, start.startWal)
    summary = {
      ...summary,
      ...(startedAt && { startedAt }),
      ...(systemIdentifier && { systemIdentifier }),
      ...(range && { timeline: range.timeline }),
      ...(manifest && {
        bytes: manifest.bytes,
        repositoryBytes: base === undefined ? manifest.bytes : await bytesOf(archives),
      }),
      ...(range && {
        stopLsn: range.end,
        stopWal: segmentBefore(parseLsn(range.end), range.timeline, await segment()),
      }),
    }
    return { ...described, summary }
  } catch (error) {
    if (error instanceof HowdahError && !error.retryable) return unusable(error.message)
    if (!isSystemError(error)) throw error
    throw new HowdahError('repository_unavailable', `${directory} cannot be read: ${error.message}`, {
      cause: error,
    })
  }
}

/** @throws HowdahError `backup_damaged` | `backup_unsupported` | `repository_unavailable` */
export async function locateCopy(
  roots: AllowedRoots,
  { label, directory }: BackupDirectory,
  { manifest, archives }: BackupDescription,
  reader: CopyReader,
): Promise<Omit<Copy, 'verify'>> {
  const base = archives.get('base')
  if (base === undefined) {
    const tablespaces = await linkedTablespaces(roots, directory)
    return { roots, label, data: { kind: 'directory', path: directory }, tablespaces, manifest }
  }
  const map = (await readMember(base, 'tablespace_map', reader))?.toString() ?? ''
  const tablespaces = parseTablespaceMap(map, `${base.region.path}:tablespace_map`).map(
    ({ oid, target }): TablespaceLocation => {
      const file = archives.get(oid)
      if (file !== undefined) return { oid, target, place: { kind: 'archive', file } }
      throw new HowdahError('backup_damaged', `backup ${label} lacks ${oid}.tar, its tablespace ${target}`)
    },
  )
  return { roots, label, data: { kind: 'archive', file: base }, tablespaces, manifest }
}

const VERSION = /^(base\/\d{1,10}\/)?PG_VERSION$/

async function headReader(base: StoredFile): Promise<ReadSmall> {
  const members = await headMembers(
    base,
    (found) =>
      found.some(({ path }) => VERSION.test(path)) && found.some(({ path }) => path === 'backup_label'),
  )
  return async (path) => {
    const isWanted =
      path === 'PG_VERSION' ? (name: string) => VERSION.test(name) : (name: string) => name === path
    return members.find((member) => isWanted(member.path))?.data
  }
}

/** A tablespace's only directory is named after the version: `PG_15_202209061`. */
async function versionByName(archives: ReadonlyMap<string, StoredFile>): Promise<string | undefined> {
  for (const [name, archive] of archives) {
    if (!/^\d+$/.test(name)) continue
    const [first] = await headMembers(archive, () => true)
    const [, version] = /^PG_(\d{1,2}(?:\.\d)?)_\d{9}(\/|$)/.exec(first?.path ?? '') ?? []
    if (version !== undefined) return version
  }
  return undefined
}

async function bytesOf(archives: ReadonlyMap<string, StoredFile>): Promise<number> {
  const sizes = [...archives.values()].map(async ({ region }) => (await stat(region.path)).size)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

async function segmentBytes(directory: string, segment: string): Promise<number> {
  const size = await stat(join(directory, 'pg_wal', segment)).then(
    (found) => found.size,
    () => 0,
  )
  return size >= 1024 * 1024 && Number.isInteger(Math.log2(size)) ? size : DEFAULT_SEGMENT_BYTES
}
