/**
 * The backups of one Barman server as its files describe them: which there are, and of each its backup.info, wherever
 * the version of Barman keeps it.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { segmentAfter } from '../../../wal/lsn.ts'
import { type AllowedRoots, resolveIfExists } from '../../decode/allowed-roots.ts'
import { hasSegment } from '../../wal-listing.ts'
import { readIfExists } from '../basebackup/backup-files.ts'
import { subdirectories } from '../subdirectories.ts'
import type { WalLocator } from '../wal-files.ts'
import { type BackupInfo, INFO_BYTES, parseBackupInfo } from './backup-info.ts'
import type { ServerDirectories } from './server-directories.ts'

const ID = /^\d{8}T\d{6}$/
/** A backup that needs more segments than this took weeks. */
const MAX_SEGMENTS = 1_000_000

export interface ServerBackups {
  /** Oldest first. @throws HowdahError `repository_unavailable` */
  ids(): Promise<string[]>
  /**
   * What is wrong with the backup itself is its summary's `unusable`.
   * @throws HowdahError that can be retried: `repository_unavailable`
   */
  info(id: string): Promise<BackupInfo>
  /** As `info`. @throws HowdahError `backup_unsupported` when it is unusable */
  usable(id: string): Promise<BackupInfo>
}

export function createServerBackups(
  { backups: base, meta }: ServerDirectories,
  roots: AllowedRoots,
  server: string,
  wal: WalLocator,
): ServerBackups {
  async function info(id: string): Promise<BackupInfo> {
    const places = [join(meta, `${id}-backup.info`), join(base, id, 'backup.info')]
    try {
      await resolveIfExists(roots, join(base, id))
      for (const path of places) {
        const bytes = await readIfExists(path, INFO_BYTES)
        if (bytes === undefined) continue
        const found = parseBackupInfo(bytes.toString('utf8'), id, path)
        return { ...found, summary: await withWal(found) }
      }
    } catch (error) {
      if (!(error instanceof HowdahError) || error.retryable) throw error
      return unusable(id, error.message)
    }
    return unusable(id, 'it has no backup.info: it was interrupted, or deleted in part')
  }

  /** Barman sets a backup's status to DONE some time after its WAL is complete: the archive decides. */
  async function withWal({ summary, status, segmentBytes }: BackupInfo): Promise<BackupSummary> {
    if (status !== 'WAITING_FOR_WALS' || summary.unusable !== undefined) return summary
    const { startWal, stopWal } = summary
    if (startWal === undefined || stopWal === undefined) return summary
    const there = await wal.list()
    let segment: string | undefined = startWal
    for (let count = 0; count < MAX_SEGMENTS && segment !== undefined; count += 1) {
      if (!hasSegment(there, segment)) {
        return { ...summary, unusable: `it waits for WAL: ${segment} has not arrived in the archive` }
      }
      if (segment >= stopWal) return summary
      segment = segmentAfter(segment, segmentBytes)
    }
    return { ...summary, unusable: `its WAL from ${startWal} to ${stopWal} is no valid range` }
  }

  return {
    async ids() {
      const there = await resolveIfExists(roots, base)
      const path = there ?? base
      const inBase = await subdirectories(
        path,
        (reason) => `server ${server} cannot be read: ${reason} on ${path}`,
      )
      // Barman 3.13.2 moved backup.info to the meta directory; what is there counts.
      const inMeta = (await namesIn((await resolveIfExists(roots, meta)) ?? meta)).flatMap(
        (name) => /^(\d{8}T\d{6})-backup\.info$/.exec(name)?.[1] ?? [],
      )
      return [...new Set([...inBase.filter((name) => ID.test(name)), ...inMeta])].sort()
    },
    info,
    async usable(id) {
      const found = await info(id)
      const { unusable: reason } = found.summary
      if (reason === undefined) return found
      throw new HowdahError('backup_unsupported', `backup ${id} of ${server}: ${reason}`)
    },
  }
}

const unusable = (label: string, reason: string): BackupInfo => ({
  summary: { label, type: 'full', postgresVersion: 'unknown', unusable: reason },
  status: 'EMPTY',
  mode: '',
  tablespaces: [],
  segmentBytes: 0,
})

/** Empty when it is not there. */
export const namesIn = (directory: string): Promise<string[]> => readdir(directory).catch(() => [])
