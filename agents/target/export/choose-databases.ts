/** Which databases of an instance an export is of. */

import { HowdahError } from '../../../messages/errors.ts'
import type { ExportRequest } from '../../../messages/exports.ts'
import type { Changes } from '../../../messages/values.ts'
import { type InstanceAddress, withAnyDatabase } from '../instance-client.ts'
import { hasMatch } from './snapshot.ts'

/**
 * Those that are asked for; else, with tables, those that have one of them; else those that were changed, and all of
 * them when something was changed and nobody knows where.
 * @throws HowdahError `export_failed` when there is nothing to export
 */
export async function chooseDatabases(
  address: InstanceAddress,
  { databases, tables }: ExportRequest,
  changes: () => Promise<Changes>,
): Promise<string[]> {
  if (databases) return [...new Set(databases)]
  const all = await withAnyDatabase(address, async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      'SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname',
    )
    return rows.map(({ datname }) => datname)
  })
  if (tables) {
    const having: string[] = []
    for (const database of all) if (await hasMatch(address, database, tables)) having.push(database)
    if (having.length > 0) return having
    throw new HowdahError(
      'export_failed',
      `no database has a table ${tables.join(', ')}; there are ${all.join(', ')}`,
      {
        field: 'tables',
      },
    )
  }
  const { changed, databases: known } = await changes()
  if (known.length > 0) return known
  if (changed) return all
  throw new HowdahError(
    'export_failed',
    `nothing was changed that was not exported; name the databases to export: ${all.join(', ')}`,
    { field: 'databases' },
  )
}
