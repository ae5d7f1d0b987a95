/** Which backups recovery may start from, by the request alone. Pure; the WAL is consulted later. */
import { HowdahError } from '../../messages/errors.ts'
import { versionProblem } from '../../messages/postgres-versions.ts'
import type { BackupSummary, RecoverTo } from '../../messages/values.ts'

export interface BackupRequest {
  readonly repository: string
  readonly instance: string
  /** A label, or `latest`: the newest backup from which the recovery target can be reached. */
  readonly backup: string
  readonly recoverTo: RecoverTo
}

export const describeInstance = ({ instance, repository }: BackupRequest) =>
  `instance "${instance}" of repository "${repository}"`

/**
 * The backup that was named, or all that can be published, newest first.
 * @param backups of the instance, oldest first
 * @throws HowdahError `unknown_backup` | `backup_unsupported`
 */
export function candidates(
  request: BackupRequest,
  backups: readonly BackupSummary[],
): [BackupSummary, ...BackupSummary[]] {
  const place = describeInstance(request)
  if (request.backup !== 'latest') {
    const named = backups.find(({ label }) => label === request.backup)
    if (!named) {
      const finding = `${place} has no backup "${request.backup}"; ${listed(backups)}`
      throw new HowdahError('unknown_backup', finding, { field: 'backup' })
    }
    if (named.unusable !== undefined) {
      const finding = `backup "${named.label}" of ${place}: ${named.unusable}`
      throw new HowdahError('backup_unsupported', finding, { field: 'backup' })
    }
    return [named]
  }
  const newest = backups.at(-1)
  const unknown = newest && versionProblem(newest.postgresVersion)
  // An older backup would be of the time before production was upgraded.
  if (newest && unknown !== undefined && ['latest', 'immediate'].includes(request.recoverTo.type)) {
    const finding = `the newest backup of ${place} is "${newest.label}": ${unknown}; to publish an older one, name it`
    throw new HowdahError('backup_unsupported', finding, { field: 'backup' })
  }
  const [first, ...older] = backups.filter(({ unusable }) => unusable === undefined).reverse()
  if (first !== undefined) return [first, ...older]
  throw newest
    ? new HowdahError('backup_unsupported', `no backup of ${place} can be published: ${newest.unusable}`, {
        field: 'instance',
      })
    : new HowdahError('unknown_backup', `${place} has no backup yet`, { field: 'instance' })
}

function listed(backups: readonly BackupSummary[]): string {
  if (backups.length === 0) return 'it has none yet'
  const newest = backups.slice(-10).map(({ label }) => label)
  return `there are: ${backups.length > newest.length ? '…, ' : ''}${newest.join(', ')}`
}
