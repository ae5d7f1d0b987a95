/** Which backup a recovery target is reached from. Pure. */
import { HowdahError } from '../../messages/errors.ts'
import type { BackupSummary, RecoverTo } from '../../messages/values.ts'

export interface BackupRequest {
  readonly repository: string
  readonly instance: string
  /** A label, or `latest`: the newest backup from which the recovery target can be reached. */
  readonly backup: string
  readonly recoverTo: RecoverTo
}

/**
 * Recovery needs a backup that ended before its target.
 * @param backups of the instance, oldest first
 * @throws HowdahError `unknown_backup` | `backup_unsupported` | `target_unreachable`
 */
export function chooseBackup(request: BackupRequest, backups: readonly BackupSummary[]): BackupSummary {
  const place = `instance "${request.instance}" of repository "${request.repository}"`
  if (request.backup !== 'latest') {
    const named = backups.find(({ label }) => label === request.backup)
    if (!named) {
      throw new HowdahError(
        'unknown_backup',
        `${place} has no backup "${request.backup}"; ${listed(backups)}`,
        {
          field: 'backup',
        },
      )
    }
    if (named.unusable !== undefined) {
      throw new HowdahError('backup_unsupported', `backup "${named.label}" of ${place}: ${named.unusable}`, {
        field: 'backup',
      })
    }
    return named
  }
  const usable = backups.filter(({ unusable }) => unusable === undefined)
  if (usable.length === 0) {
    const newest = backups.at(-1)
    throw newest
      ? new HowdahError('backup_unsupported', `no backup of ${place} can be published: ${newest.unusable}`, {
          field: 'instance',
        })
      : new HowdahError('unknown_backup', `${place} has no backup yet`, { field: 'instance' })
  }
  const early = usable.filter((backup) => endedBefore(backup, request.recoverTo))
  const chosen = early.at(-1)
  if (chosen) return chosen
  throw new HowdahError(
    'target_unreachable',
    `no backup of ${place} ended before ${request.recoverTo.type} ${request.recoverTo.value}; the first one ended at ${usable[0]?.stoppedAt} (LSN ${usable[0]?.stopLsn})`,
    { field: 'recoverTo' },
  )
}

function endedBefore({ stoppedAt, stopLsn }: BackupSummary, { type, value }: RecoverTo): boolean {
  switch (type) {
    case 'time':
      return stoppedAt === undefined || Date.parse(stoppedAt) <= Date.parse(value ?? '')
    case 'lsn':
      return stopLsn === undefined || parseLsn(stopLsn) <= parseLsn(value ?? '')
    // Where in the WAL an xid or a restore point is, only its replay tells.
    case 'latest':
    case 'immediate':
    case 'xid':
    case 'name':
      return true
    default:
      return type satisfies never
  }
}

/** `0/422AB08` as a number of bytes. @throws HowdahError `invalid_message` */
function parseLsn(text: string): bigint {
  const parts = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i.exec(text)
  if (!parts) {
    throw new HowdahError('invalid_message', `"${text}" is not an LSN; one looks like 0/422AB08`, {
      field: 'recoverTo.value',
    })
  }
  return (BigInt(`0x${parts[1]}`) << 32n) | BigInt(`0x${parts[2]}`)
}

function listed(backups: readonly BackupSummary[]): string {
  if (backups.length === 0) return 'it has none yet'
  const newest = backups.slice(-10).map(({ label }) => label)
  return `there are: ${backups.length > newest.length ? '…, ' : ''}${newest.join(', ')}`
}
