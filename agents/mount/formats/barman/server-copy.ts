/** Where the files of one backup of a Barman server are: a data directory with tablespaces, or tar archives. */
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { type AllowedRoots, resolveIfExists } from '../../decode/allowed-roots.ts'
import { readBackupManifest } from '../basebackup/backup-manifest.ts'
import { archivesIn, type Copy } from '../basebackup/copy.ts'
import type { TablespaceLocation } from '../basebackup/copy-locations.ts'
import type { BackupInfo } from './backup-info.ts'
import { namesIn } from './server-backups.ts'

/**
 * @param base the directory of the server's base backups
 * @param verify whether the checksums of a manifest are to be verified
 * @throws HowdahError `backup_damaged` | `repository_unavailable`
 */
export async function findCopy(
  { summary: { label }, mode, tablespaces }: BackupInfo,
  base: string,
  roots: AllowedRoots,
  server: string,
  verify: boolean,
): Promise<Copy> {
  const directory = join(base, label)
  const data = join(directory, 'data')
  const names = await namesIn((await resolveIfExists(roots, data)) ?? data)
  if (names.includes('PG_VERSION')) {
    return {
      roots,
      label,
      data: { kind: 'directory', path: data },
      tablespaces: tablespaces.map(
        ({ oid, target }): TablespaceLocation => ({
          oid,
          target,
          place: { kind: 'directory', path: join(directory, oid) },
        }),
      ),
      // One that Barman generated later describes what it found, not what PostgreSQL copied.
      manifest: mode === 'postgres' ? await readBackupManifest(data) : undefined,
      verify,
    }
  }
  const archives = await archivesIn(roots, data, label).catch((error: unknown) => {
    if (error instanceof HowdahError) throw error
    throw new HowdahError('backup_damaged', `backup ${label} of ${server} has no ${data}`, { cause: error })
  })
  const archive = (name: string) => {
    const file = archives.get(name)
    if (file !== undefined) return { kind: 'archive', file } as const
    throw new HowdahError('backup_damaged', `backup ${label} of ${server} lacks ${name}.tar in ${data}`)
  }
  return {
    roots,
    label,
    data: archive('base'),
    tablespaces: tablespaces.map(({ oid, target }) => ({ oid, target, place: archive(oid) })),
    manifest: await readBackupManifest(data),
    verify,
  }
}
