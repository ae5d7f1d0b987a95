/** Chooses the databases of an instance that an export contains. */

import { HowdahError } from '../../../../messages/errors.ts'
import type { ExportRequest } from '../../../../messages/exports.ts'
import type { Changes } from '../../../../messages/values.ts'
import { type InstanceAddress, withAnyDatabase } from '../../postgres/connections/instance-client.ts'
import { listDatabases, someNames, unusableReason } from '../../postgres/connections/instance-databases.ts'
import { hasMatch } from './snapshot.ts'

/** Databases that were left out, in an error. */
const MAX_NOTES = 20

export interface ChosenDatabases {
  readonly databases: readonly string[]
  /** Databases that were omitted, and why. */
  readonly notes: readonly string[]
}

/** Each database has to be connected to, which takes minutes where there are thousands. */
export interface TableSearch {
  readonly signal?: AbortSignal
  readonly progress?: (detail: string) => void
}

/**
 * The databases that are requested; otherwise, for an export of tables, those that have one of them; otherwise those that
 * were changed, or all if it is unknown where. A database that cannot be connected to is omitted.
 * @throws HowdahError `export_failed` when there is nothing to export
 */
export async function chooseDatabases(
  address: InstanceAddress,
  { databases, tables }: ExportRequest,
  changes: () => Promise<Changes>,
  search: TableSearch = {},
): Promise<ChosenDatabases> {
  if (databases) return { databases: [...new Set(databases)], notes: [] }
  const all = (await withAnyDatabase(address, listDatabases)).filter(({ isTemplate }) => !isTemplate)
  const open = all.filter(({ closed }) => closed === undefined).map(({ name }) => name)
  const notes = all
    .filter(({ closed }) => closed !== undefined)
    .map(({ name, closed }) => leftOut(name, closed ?? ''))
  if (tables) {
    const having: string[] = []
    const looked: string[] = []
    for (const [index, database] of open.entries()) {
      search.signal?.throwIfAborted()
      search.progress?.(`looks for the tables in database ${database} (${index + 1} of ${open.length})`)
      try {
        if (await hasMatch(address, database, tables)) having.push(database)
        looked.push(database)
      } catch (error) {
        notes.push(leftOut(database, unusableReason(error)))
      }
    }
    if (having.length > 0) return { databases: having, notes }
    throw new HowdahError(
      'export_failed',
      [
        `no database has a table ${tables.join(', ')}; there are ${someNames(looked)}`,
        ...notes.slice(0, MAX_NOTES),
      ].join('. '),
      { field: 'tables' },
    )
  }
  const { changed, databases: known } = await changes()
  if (known.length > 0) return { databases: known, notes: [] }
  if (changed) return { databases: open, notes }
  throw new HowdahError(
    'export_failed',
    `nothing was changed that was not exported; name the databases to export: ${someNames(open)}`,
    { field: 'databases' },
  )
}

function leftOut(database: string, why: string): string {
  return `the database "${database}" was left out: ${why}`
}
