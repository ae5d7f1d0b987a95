/** Marks backups of PostgreSQL versions that this release does not know as what cannot be published. Pure. */
import { versionProblem } from '../../messages/postgres-versions.ts'
import type { BackupSummary } from '../../messages/values.ts'

export function withVersionProblem(backup: BackupSummary): BackupSummary {
  const problem = versionProblem(backup.postgresVersion)
  return problem === undefined || backup.unusable !== undefined ? backup : { ...backup, unusable: problem }
}
