/**
 * Plans a recovery: which backup it starts from and which recovery target PostgreSQL gets, checked against the archive
 * before anything is mounted. What only replay can show is left to PostgreSQL. A request passes through
 * recovery-target.ts (parsing), starting-backup.ts (which backup, with locate-target.ts) and check-reach.ts (whether
 * the archive suffices); instance-archive.ts and wal-inspector.ts read the WAL. This folder never writes, and never
 * reads a backup's files.
 */
import type { BackupSummary } from '../../../messages/values.ts'
import { type BackupRequest, candidates } from '../choose-backup.ts'
import type { Instance } from '../repository.ts'
import { withVersionProblem } from '../unknown-version.ts'
import { checkReach } from './check-reach.ts'
import type { ArchiveKnowledge } from './instance-archive.ts'
import type { Search } from './locate-target.ts'
import { createPlanning, type Warning } from './planning.ts'
import type { CheckedReach } from './reach-context.ts'
import { parseRecoveryTarget } from './recovery-target.ts'
import { chooseStartingBackup } from './starting-backup.ts'

export interface RecoveryPlan extends CheckedReach {
  readonly backup: BackupSummary
  readonly warnings: readonly Warning[]
}

/**
 * @throws HowdahError `invalid_message` | `unknown_backup` | `backup_unsupported` | `target_unreachable` | `wal_missing`,
 *   and what reading the archive throws
 */
export async function planRecovery(
  request: BackupRequest,
  instance: Instance,
  knowledge: ArchiveKnowledge,
  now: () => number,
  search: Search = {},
): Promise<RecoveryPlan> {
  const target = parseRecoveryTarget(request.recoverTo)
  const backups = (await instance.backups()).map(withVersionProblem)
  const planning = createPlanning({
    request,
    target,
    instance,
    backups,
    candidates: candidates(request, backups),
    knowledge,
    now,
    search,
  })
  const chosen = await chooseStartingBackup(planning)
  const reach = await checkReach(planning, chosen)
  return { backup: chosen.backup, warnings: planning.warnings, ...reach }
}
