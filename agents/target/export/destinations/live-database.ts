/** The databases of a live server that an export writes to: restoring into them, and what they must not have already. */
import { HowdahError } from '../../../../messages/errors.ts'
import { literal, quoted } from '../dump/names.ts'
import {
  type Dependent,
  dependentsQuery,
  type RelationName,
  renameStatements,
  type TableRename,
} from '../dump/renames.ts'
import { createDatabaseSql, propertiesOf } from '../source/database-properties.ts'
import type { DatabaseDump } from './destination.ts'
import { type LiveConnection, MAINTENANCE_DATABASE, pipe } from './live-connection.ts'

export async function databaseExists(live: LiveConnection, database: string): Promise<boolean> {
  return live.json(
    MAINTENANCE_DATABASE,
    `SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = ${literal(database)}))`,
  )
}

/** Drops a database where it exists. Its backends are terminated: those of a killed client may still be at work. */
export async function dropLiveDatabase(live: LiveConnection, database: string): Promise<void> {
  await live.sql(
    MAINTENANCE_DATABASE,
    `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = ${literal(database)};
     DROP DATABASE IF EXISTS ${quoted(database)}`,
  )
}

/** Restores a dump into a database that exists, in one transaction. @throws HowdahError `export_failed` */
export async function restoreDump(live: LiveConnection, dump: DatabaseDump, database: string): Promise<void> {
  const owners = await ownershipFlags(live, dump)
  const args = ['--exit-on-error', '--single-transaction', ...owners]
  await pipe(dump.start(['-Fc']), live.restore(database, args), dump.progress)
}

export interface NewDatabase {
  /** Its name until it is complete. */
  readonly temporary: string
  readonly database: string
  readonly renames: readonly TableRename[]
}

/**
 * Restores a dump into a new database, which has a temporary name until it is complete. Nothing is left of a failure.
 * @throws HowdahError `export_failed`
 */
export async function restoreAsNew(
  live: LiveConnection,
  dump: DatabaseDump,
  { temporary, database, renames }: NewDatabase,
): Promise<void> {
  await dropLiveDatabase(live, temporary)
  try {
    const properties = await propertiesOf(dump.snapshot)
    await live.sql(MAINTENANCE_DATABASE, createDatabaseSql(temporary, properties))
    await restoreDump(live, dump, temporary)
    for (const rename of renames) {
      const dependents = await live.json<Dependent[]>(temporary, dependentsQuery(rename.from))
      const statements = [
        ...(await withoutEventTriggers(live, temporary)),
        ...renameStatements(rename, dependents),
      ]
      await live.sql(temporary, `BEGIN;\n${statements.join(';\n')};\nCOMMIT;`)
    }
    await live.sql(MAINTENANCE_DATABASE, `ALTER DATABASE ${quoted(temporary)} RENAME TO ${quoted(database)}`)
  } catch (error) {
    await dropLiveDatabase(live, temporary).catch(() => undefined)
    throw error
  }
}

/** Statements that keep event triggers of the dump, which take a superuser to restore, from firing on the renames. */
async function withoutEventTriggers(live: LiveConnection, database: string): Promise<string[]> {
  const query = 'SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_event_trigger))'
  const hasTriggers = await live.json<boolean>(database, query)
  return hasTriggers ? ['SET LOCAL session_replication_role = replica'] : []
}

/** @throws HowdahError `export_failed` that names what would be overwritten */
export async function requireNoConflict(
  live: LiveConnection,
  database: string,
  tables: readonly RelationName[],
  renames: readonly TableRename[],
): Promise<void> {
  const names = tables.map((table) => {
    const { schema, name } =
      renames.find(({ from }) => from.schema === table.schema && from.name === table.name)?.to ?? table
    return { schema, name }
  })
  const taken = await live.json<RelationName[]>(
    database,
    `SELECT coalesce(pg_catalog.json_agg(t), '[]') FROM (
       SELECT w.schema, w.name FROM pg_catalog.json_to_recordset(${literal(JSON.stringify(names))}) AS w (schema text, name text)
       JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
       JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name ORDER BY 1, 2) AS t`,
  )
  if (taken.length === 0) return
  const listed = taken.map(({ schema, name }) => `${schema}.${name}`).join(', ')
  throw new HowdahError(
    'export_failed',
    `the database "${database}" on ${live.where} has ${listed} already, and an export overwrites nothing. Rename it on the way, or the database.`,
    { field: 'rename' },
  )
}

/** Owners, privileges and tablespaces are restored where the other server has all of them and lets us; else not. */
export async function ownershipFlags(live: LiveConnection, { snapshot }: DatabaseDump): Promise<string[]> {
  const [here] = await snapshot.query<{ roles: string[]; tablespaces: string[] }>(
    `SELECT ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_') AS roles,
            ARRAY(SELECT spcname::text FROM pg_catalog.pg_tablespace) AS tablespaces`,
  )
  const there = await live.json<{ superuser: boolean; roles: string[]; tablespaces: string[] }>(
    MAINTENANCE_DATABASE,
    `SELECT pg_catalog.json_build_object(
       'superuser', pg_catalog.current_setting('is_superuser') = 'on',
       'roles', ARRAY(SELECT rolname FROM pg_catalog.pg_roles),
       'tablespaces', ARRAY(SELECT spcname FROM pg_catalog.pg_tablespace))`,
  )
  const has = (names: readonly string[], all: readonly string[]): boolean =>
    names.every((name) => all.includes(name))
  return [
    ...(there.superuser && has(here?.roles ?? [], there.roles) ? [] : ['--no-owner', '--no-privileges']),
    ...(has(here?.tablespaces ?? [], there.tablespaces) ? [] : ['--no-tablespaces']),
  ]
}
