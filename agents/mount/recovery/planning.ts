/**
 * The state of planning one recovery: the request, what the instance has, warnings, and the error that says what is
 * possible instead.
 */
import { type ErrorCode, HowdahError } from '../../../messages/errors.ts'
import type { BackupSummary, RecoverTo } from '../../../messages/values.ts'
import type { BackupRequest } from '../choose-backup.ts'
import type { Instance } from '../repository.ts'
import { type ArchiveKnowledge, type InstanceArchive, openInstanceArchive } from './instance-archive.ts'
import type { Search } from './locate-target.ts'
import type { RecoveryTarget } from './recovery-target.ts'
import { describeWindows, instanceWindows, inUtc } from './windows.ts'

export interface Warning {
  readonly code: ErrorCode
  readonly message: string
}

export interface Planning {
  readonly target: RecoveryTarget
  readonly recoverTo: RecoverTo
  /** Those that recovery may start from, newest first: the one that was named, or all. */
  readonly candidates: readonly [BackupSummary, ...BackupSummary[]]
  readonly isNamed: boolean
  /** The instance, for messages. */
  readonly name: string
  readonly knowledge: ArchiveKnowledge
  readonly now: () => number
  readonly search: Search
  readonly warnings: Warning[]
  /** The archive of a backup, listed once per request. @throws as `openInstanceArchive` */
  archiveOf(backup: BackupSummary): Promise<InstanceArchive>
  /** The error to throw, which names what is possible instead. */
  unreachable(finding: string, code?: ErrorCode): Promise<HowdahError>
}

export interface PlanningOptions {
  readonly request: BackupRequest
  readonly target: RecoveryTarget
  readonly instance: Instance
  /** Of the instance, oldest first. */
  readonly backups: readonly BackupSummary[]
  readonly candidates: readonly [BackupSummary, ...BackupSummary[]]
  readonly knowledge: ArchiveKnowledge
  readonly now: () => number
  readonly search: Search
}

export function createPlanning(options: PlanningOptions): Planning {
  const { request, target, instance, backups, knowledge } = options
  const name = `${request.repository}/${request.instance}`
  const archives = new Map<string, InstanceArchive>()
  return {
    target,
    recoverTo: request.recoverTo,
    candidates: options.candidates,
    isNamed: request.backup !== 'latest',
    name,
    knowledge,
    now: options.now,
    search: options.search,
    warnings: [],
    async archiveOf(backup) {
      const { id } = await instance.wal(backup)
      const known = archives.get(id)
      if (known !== undefined) return known
      const opened = await openInstanceArchive(instance, backup, knowledge)
      archives.set(id, opened)
      return opened
    },
    async unreachable(finding, code = 'target_unreachable') {
      const { windows } = await instanceWindows(instance, backups, knowledge)
      const remarks = [...archives.values()].flatMap((archive) => archive.remarks)
      const parts = [finding, describeWindows(name, windows), ...new Set(remarks)]
      return new HowdahError(code, parts.join('; '), { field: 'recoverTo' })
    },
  }
}

/** When and where a backup ended, for messages. */
export function endOf({ stoppedAt, stopLsn }: BackupSummary): string {
  const at = stoppedAt === undefined ? 'an unknown time' : inUtc(stoppedAt)
  return stopLsn === undefined ? at : `${at} (LSN ${stopLsn})`
}
