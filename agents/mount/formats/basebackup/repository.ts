/**
 * pg_basebackup's directories, plain or of tar archives. The repository has one directory per instance, which either is
 * a backup or contains several, each a directory named by its label. Other directories, such as those of tablespaces,
 * are not listed.
 *
 * The format reader of this folder: describe-backup.ts summarizes a backup, chains.ts finds what an incremental one builds
 * on, copy.ts finds the files of one, combined-tree.ts those of a chain, open-copy.ts makes a backup of them, backup-wal.ts
 * finds WAL; Barman's reader shares the parts for copies of a cluster.
 */

import { lstat, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { oldestFirst } from '../../backup-order.ts'
import { type AllowedRoots, resolveIfExists } from '../../decode/allowed-roots.ts'
import type { Instance, LocatedRepository, Repository } from '../../repository.ts'
import type { Spool } from '../../spool/spool.ts'
import { mapConcurrently } from '../map-concurrently.ts'
import { openBackup } from '../open-backup.ts'
import { subdirectories } from '../subdirectories.ts'
import { createTarIndexes } from '../tar/tar-index.ts'
import { unknownBackup, unknownInstance } from '../unknown-name-errors.ts'
import { createWalFiles } from '../wal-files.ts'
import { type BackupWal, createBackupWal } from './backup-wal.ts'
import { createChains, type ListedBackup } from './chains.ts'
import type { Copy, CopyReader } from './copy.ts'
import {
  type BackupDescription,
  type BackupDirectory,
  describeBackup,
  locateCopy,
} from './describe-backup.ts'
import { openCopy } from './open-copy.ts'

const SIGNS = /^(PG_VERSION|backup_label|backup_manifest|base\.tar(\.(gz|lz4|zst|bz2))?)$/
/** The files and directories on which a listing depends. */
const LISTED_FILES = /^(PG_VERSION|backup_label|backup_manifest|global|pg_tblspc|.*\.tar(\..*)?)$/

export function openBasebackup(options: LocatedRepository, spool: Spool): Repository {
  const reader = { spool, indexes: createTarIndexes(spool) }
  const roots: AllowedRoots = { root: options.path, linkTargets: options.linkTargets }
  const known: KnownBackups = new Map()
  const wals = new Map<string, BackupWal>()
  async function instances(): Promise<string[]> {
    const names: string[] = []
    for (const name of await labelsIn(options.path)) {
      const found = await findBackups(roots, join(options.path, name), name).catch((error: unknown) => {
        // A link that leads outside is listed with its error.
        if (error instanceof HowdahError && error.code === 'configuration') return undefined
        throw error
      })
      if (found === undefined || found.length > 0) names.push(name)
    }
    return names
  }
  return {
    instances,
    async instance(name) {
      const names = await instances()
      if (!names.includes(name)) throw unknownInstance(options.name, name, names)
      const wal = wals.get(name) ?? createBackupWal(options, name, reader)
      wals.set(name, wal)
      return openInstance(options, name, reader, wal, known)
    },
  }
}

/** Descriptions of listed backups by directory, each with the stamp of the files that it was made from. */
type KnownBackups = Map<string, { readonly stamp: string; readonly described: BackupDescription }>

function openInstance(
  options: LocatedRepository,
  name: string,
  reader: CopyReader,
  wal: BackupWal,
  known: KnownBackups,
): Instance {
  const roots: AllowedRoots = { root: options.path, linkTargets: options.linkTargets }
  const { spool } = reader
  const find = () => findBackups(roots, join(roots.root, name), name)

  /** @throws HowdahError `unknown_backup` */
  function named(there: readonly BackupDirectory[], label: string): BackupDirectory {
    const found = there.find((backup) => backup.label === label)
    if (found !== undefined) return found
    throw unknownBackup(
      name,
      label,
      there.map((backup) => backup.label),
    )
  }

  /** As far as a listing needs it; a backup that did not change is not read again. */
  async function describeListed(found: BackupDirectory): Promise<BackupDescription> {
    const stamp = await stampOf(found.directory)
    const before = known.get(found.directory)
    if (before?.stamp === stamp) return before.described
    const described = { ...(await describeBackup(roots, found, reader, false)), manifest: undefined }
    known.set(found.directory, { stamp, described })
    return described
  }

  async function describeAll(there: readonly BackupDirectory[]): Promise<ListedBackup[]> {
    const all = await mapConcurrently(there, async (found) => ({
      found,
      described: await describeListed(found),
    }))
    const listed: ListedBackup[] = []
    // Sequentially: each may need a whole WAL segment in memory.
    for (const { found, described } of all) {
      listed.push({ found, described: { ...described, summary: await wal.withEnd(found, described) } })
    }
    return listed
  }

  /** @throws HowdahError `backup_unsupported` */
  async function usable(found: BackupDirectory): Promise<BackupDescription> {
    const described = await describeBackup(roots, found, reader, true)
    const { unusable } = described.summary
    if (unusable === undefined) return described
    throw unusableError(found.label, unusable)
  }

  const unusableError = (label: string, reason: string) =>
    new HowdahError('backup_unsupported', `backup ${label} of ${name}: ${reason}`)

  return {
    name,
    async backups() {
      const all = await describeAll(await find())
      return oldestFirst(all.map(createChains(all).summaryOf))
    },
    async open(label) {
      const there = await find()
      const found = named(there, label)
      const described = await usable(found)
      const copyOf = async (place: BackupDirectory, about: BackupDescription): Promise<Copy> => ({
        ...(await locateCopy(roots, place, about, reader)),
        verify: options.verifyChecksums !== false,
      })
      let summary = await wal.withEnd(found, described)
      let ancestors: readonly ListedBackup[] = []
      if (described.from !== undefined) {
        const backup = { found, described: { ...described, summary } }
        const chains = createChains(await describeAll(there))
        summary = chains.summaryOf(backup)
        if (summary.unusable !== undefined) throw unusableError(label, summary.unusable)
        ancestors = chains.ancestorsOf(backup)
      }
      const copy = await copyOf(found, described)
      const earlier = ancestors.map((one) => async () => copyOf(one.found, await usable(one.found)))
      const { tree, storedFile } = await openCopy(copy, earlier, reader)
      const files = createWalFiles(wal.locator(found, described), spool, name)
      return openBackup({ summary, tree, storedFile, wal: files }, spool)
    },
    async wal({ label }) {
      const found = named(await find(), label)
      const described = await describeListed(found)
      return wal.archive(found, described)
    },
    databases: async () => undefined,
  }
}

/** @throws HowdahError `configuration` when the directory is a link that leads outside, `repository_unavailable` */
async function findBackups(
  roots: AllowedRoots,
  directory: string,
  instance: string,
): Promise<BackupDirectory[]> {
  const real = await resolveIfExists(roots, directory)
  if (real === undefined || !(await stat(real)).isDirectory()) return []
  if (await isBackup(real)) return [{ label: instance, directory }]
  const found: BackupDirectory[] = []
  for (const label of await labelsIn(real)) {
    if (await isBackup(join(real, label))) found.push({ label, directory: join(directory, label) })
  }
  return found
}

/** Identifies the state of everything that a listing says about a backup. */
async function stampOf(directory: string): Promise<string> {
  const names = (await readdir(directory).catch(() => [])).filter((name) => LISTED_FILES.test(name))
  const stats = [directory, ...names.map((name) => join(directory, name))].map(async (path) => {
    const { ino, size, mtimeMs } = (await lstat(path).catch(() => undefined)) ?? {}
    return [path, ino, size, mtimeMs]
  })
  return JSON.stringify(await Promise.all(stats))
}

const isBackup = async (directory: string) =>
  (await readdir(directory).catch(() => [])).some((name) => SIGNS.test(name))

const labelsIn = (path: string): Promise<string[]> =>
  subdirectories(path, (reason) => `${path} cannot be read (${reason})`)
