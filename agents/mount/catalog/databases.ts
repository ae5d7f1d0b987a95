import type { DatabaseSummary } from '../../../messages/steps.ts'
import type { OpenBackup } from '../repository.ts'
export async function readDatabases(_backup: OpenBackup): Promise<DatabaseSummary[] | undefined> {
  return undefined
}
