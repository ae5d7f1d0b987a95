/** The WAL of one instance's backups: from the configured archive, and from each backup itself. */
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { BackupSummary } from '../../../../messages/values.ts'
import { type BackupEnd, findBackupEnd } from '../../recovery/backup-end.ts'
import { createWalInspector } from '../../recovery/wal-inspector.ts'
import type { LocatedRepository, WalArchive } from '../../repository.ts'
import { createWalArchive, type WalLocator } from '../wal-files.ts'
import type { CopyReader } from './copy.ts'
import type { BackupDescription, BackupDirectory } from './describe-backup.ts'
import { combineWalSources, walDirectory, walInTar } from './wal-directory.ts'

export interface BackupWal {
  locator(found: BackupDirectory, described: BackupDescription): WalLocator
  archive(found: BackupDirectory, described: BackupDescription): WalArchive
  /** The summary with the end of the backup according to its WAL; the result is kept. */
  withEnd(found: BackupDirectory, described: BackupDescription): Promise<BackupSummary>
}

export function createBackupWal(
  { path: root, walPath, linkTargets }: LocatedRepository,
  instance: string,
  { spool, indexes }: CopyReader,
): BackupWal {
  const archive =
    walPath === undefined
      ? undefined
      : walDirectory({
          roots: { root: walPath, linkTargets },
          directory: walPath,
          instance,
          isArchive: true,
        })
  const inspector = createWalInspector()
  /** By directory: the end of the backup that started at `start`. */
  const ends = new Map<string, { readonly start: string | undefined; readonly end: BackupEnd }>()

  function locator({ directory }: BackupDirectory, { archives }: BackupDescription): WalLocator {
    const [base, streamed] = [archives.get('base'), archives.get('pg_wal')]
    if (streamed !== undefined) return combineWalSources(archive, walInTar(streamed, '', indexes, instance))
    if (base !== undefined) return combineWalSources(archive, walInTar(base, 'pg_wal/', indexes, instance))
    // pg_basebackup --waldir leaves a link, which may lead to the configured archive.
    const roots = {
      root,
      linkTargets: [...(linkTargets ?? []), ...(walPath === undefined ? [] : [walPath])],
    }
    const own = walDirectory({ roots, directory: join(directory, 'pg_wal'), instance, isArchive: false })
    return combineWalSources(archive, own)
  }

  const archiveOf = (found: BackupDirectory, described: BackupDescription): WalArchive =>
    createWalArchive(found.directory, locator(found, described), spool)

  async function endOf(found: BackupDirectory, described: BackupDescription): Promise<BackupEnd> {
    const { startLsn } = described.summary
    const known = ends.get(found.directory)
    if (known !== undefined && known.start === startLsn) return known.end
    try {
      const end = await findBackupEnd(described.summary, archiveOf(found, described), inspector)
      if (end.stopLsn !== undefined) ends.set(found.directory, { start: startLsn, end })
      return end
    } catch (error) {
      // Errors of the WAL are reported where it is needed.
      if (error instanceof HowdahError) return {}
      throw error
    }
  }

  return {
    locator,
    archive: archiveOf,
    async withEnd(found, described) {
      const { summary } = described
      if (summary.unusable !== undefined) return summary
      const end = await endOf(found, described)
      const stoppedAt = end.stoppedAt ?? summary.startedAt
      return { ...summary, ...end, ...(stoppedAt !== undefined && { stoppedAt }) }
    },
  }
}
