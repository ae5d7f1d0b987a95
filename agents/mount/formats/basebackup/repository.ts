/**
 * Plain pg_basebackup directories. The repository holds one directory per instance, which either is a backup itself or
 * holds several, each a directory named by its label. What looks like no backup is not listed: tablespaces lie there.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackupSummary } from '../../../../messages/definitions.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import type { Instance, Repository, RepositoryOptions } from '../../repository.ts'
import type { Spool } from '../../spool.ts'
import { openBackup } from '../open-backup.ts'
import { unknownBackup, unknownInstance } from '../unknown.ts'
import { createWalArchive, createWalFiles, type WalLocator } from '../wal-files.ts'
import {
  parseBackupLabel,
  readBackupManifest,
  readIfThere,
  segmentBefore,
  systemIdentifierOf,
} from './backup-files.ts'
import { tablespaceLinks, walkBackup } from './directory-tree.ts'
import { walDirectories } from './wal-directory.ts'

const SIGNS = /^(PG_VERSION|backup_label|backup_manifest|base\.tar(\.(gz|lz4|zst))?)$/
/** What `initdb` makes unless told otherwise. Bytes. */
const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024

/** A backup's label and its directory. */
interface Found {
  readonly label: string
  readonly directory: string
}

export function openBasebackup(options: RepositoryOptions, spool: Spool): Repository {
  async function instances(): Promise<string[]> {
    const names: string[] = []
    for (const name of await subdirectories(options.path)) {
      if ((await findBackups(join(options.path, name), name)).length > 0) names.push(name)
    }
    return names
  }
  return {
    instances,
    async instance(name) {
      const names = await instances()
      if (!names.includes(name)) throw unknownInstance(options.name, name, names)
      return openInstance(options, name, spool)
    },
  }
}

function openInstance(options: RepositoryOptions, name: string, spool: Spool): Instance {
  const root = options.path
  const find = () => findBackups(join(root, name), name)

  /** @throws HowdahError `unknown_backup` */
  async function foundBackup(label: string): Promise<Found> {
    const there = await find()
    const found = there.find((backup) => backup.label === label)
    if (found !== undefined) return found
    throw unknownBackup(
      name,
      label,
      there.map((backup) => backup.label),
    )
  }

  function walOf(directory: string): WalLocator {
    const archive =
      options.walPath === undefined ? undefined : { root: options.walPath, directory: options.walPath }
    return walDirectories(archive, { root, directory: join(directory, 'pg_wal') }, name)
  }

  return {
    name,
    async backups() {
      const summaries = await Promise.all((await find()).map((found) => summarize(root, found)))
      return summaries.sort((a, b) => compare(when(a), when(b)) || compare(a.label, b.label))
    },
    async open(label) {
      const found = await foundBackup(label)
      const { directory } = found
      const summary = await summarize(root, found)
      if (summary.unusable !== undefined) {
        throw new HowdahError('backup_unsupported', `backup ${label} of ${name}: ${summary.unusable}`)
      }
      const manifest = await readBackupManifest(directory)
      const tree = await walkBackup(root, directory, manifest)
      return openBackup(
        {
          summary,
          tree,
          storedFile: (path, { size }) => ({
            region: { root, path, offset: 0, length: size, wholeFile: true },
            transforms: [],
            size,
            description: `${path.slice(root.length + 1)} of backup ${label}`,
          }),
          wal: createWalFiles(walOf(directory), spool, name),
        },
        spool,
      )
    },
    async wal({ label }) {
      const { directory } = await foundBackup(label)
      return createWalArchive(directory, walOf(directory), spool)
    },
    databases: async () => undefined,
  }
}

async function subdirectories(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    return entries
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
      .map(({ name }) => name)
      .sort()
  } catch (error) {
    throw new HowdahError(
      'repository_unavailable',
      `${path} cannot be read (${isSystemError(error) ? error.code : error}); check the path, and that the mount agent may read it`,
      { cause: error },
    )
  }
}

async function findBackups(directory: string, instance: string): Promise<Found[]> {
  if (await isBackup(directory)) return [{ label: instance, directory }]
  const found: Found[] = []
  for (const label of await subdirectories(directory)) {
    if (await isBackup(join(directory, label))) found.push({ label, directory: join(directory, label) })
  }
  return found
}

const isBackup = async (directory: string) =>
  (await readdir(directory).catch(() => [])).some((name) => SIGNS.test(name))

const when = (backup: BackupSummary) => backup.stoppedAt ?? backup.startedAt ?? ''
const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** Never throws for what is wrong with the backup itself: that is its `unusable`. */
async function summarize(root: string, { label, directory }: Found): Promise<BackupSummary> {
  const version = (await readIfThere(join(directory, 'PG_VERSION')).catch(() => undefined))?.toString().trim()
  const summary: BackupSummary = { label, type: 'full', postgresVersion: version ?? 'unknown' }
  const unusable = (reason: string): BackupSummary => ({ ...summary, unusable: reason })
  if (version === undefined || !/^\d{1,2}(\.\d)?$/.test(version)) {
    const tar = (await readdir(directory)).some((name) => name.startsWith('base.tar'))
    return unusable(tar ? 'it is in tar format, which Howdah cannot read yet' : 'it has no valid PG_VERSION')
  }
  try {
    const labelPath = join(directory, 'backup_label')
    const labelText = await readIfThere(labelPath)
    if (labelText === undefined) {
      return unusable('it has no backup_label: it is no backup, or PostgreSQL has been started on it')
    }
    if (/^INCREMENTAL FROM /m.test(labelText.toString())) {
      return unusable('it is an incremental backup of PostgreSQL 17, which Howdah cannot read yet')
    }
    const start = parseBackupLabel(labelText.toString(), labelPath)
    await tablespaceLinks(root, directory)
    const manifest = await readBackupManifest(directory)
    const control = await readIfThere(join(directory, 'global', 'pg_control'))
    const systemIdentifier = manifest?.systemIdentifier ?? systemIdentifierOf(control)
    const startedAt = start.startedAt ?? manifest?.startedAt
    const range = manifest?.walRange
    return {
      ...summary,
      ...(startedAt === undefined ? {} : { startedAt }),
      ...(systemIdentifier === undefined ? {} : { systemIdentifier }),
      startLsn: start.startLsn,
      startWal: start.startWal,
      timeline: range?.timeline ?? start.timeline,
      ...(manifest === undefined
        ? {}
        : { bytes: manifest.bytes, repositoryBytes: manifest.bytes, stoppedAt: await writtenAt(directory) }),
      ...(range === undefined
        ? {}
        : {
            stopLsn: range.end,
            stopWal: segmentBefore(range.end, range.timeline, await segmentBytes(directory, start.startWal)),
          }),
    }
  } catch (error) {
    if (error instanceof HowdahError && !error.retryable) return unusable(error.message)
    throw error
  }
}

/** pg_basebackup writes backup_manifest last. */
const writtenAt = async (directory: string) =>
  (await stat(join(directory, 'backup_manifest'))).mtime.toISOString()

async function segmentBytes(directory: string, segment: string): Promise<number> {
  const size = await stat(join(directory, 'pg_wal', segment)).then(
    (found) => found.size,
    () => 0,
  )
  return size >= 1024 * 1024 && Number.isInteger(Math.log2(size)) ? size : DEFAULT_SEGMENT_BYTES
}
