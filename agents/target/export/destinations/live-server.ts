/**
 * A running PostgreSQL server as destination: pg_dump feeds pg_restore, and no dump file is in between.
 *
 * Nothing shows there before all of it is there. What goes into a database that exists is one transaction; a database
 * that does not is made under another name, which is changed at the end.
 */
import type { CredentialConfig } from '../../../../config/formats.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Destination as DestinationRequest, ExportRequest } from '../../../../messages/exports.ts'
import type { InstanceAddress } from '../../postgres/connections/instance-client.ts'
import type { SystemUser } from '../../postgres/specification.ts'
import { copyRenamed, dropScratchDatabase } from '../dump/copy-renamed.ts'
import { literal, quoted } from '../dump/names.ts'
import type { Programs } from '../dump/programs.ts'
import {
  type Dependent,
  dependentsQuery,
  destinationDatabaseName,
  type RelationName,
  renameStatements,
  type TableRename,
  tableRenames,
} from '../dump/renames.ts'
import { createDatabaseSql, propertiesOf } from '../source/database-properties.ts'
import type { DatabaseDump, Destination } from './destination.ts'
import { type LiveConnection, liveConnection, MAINTENANCE_DATABASE, pipe } from './live-connection.ts'
import type { Claim } from './local-directory.ts'

export interface LiveServerOptions {
  readonly export: ExportRequest
  readonly request: Extract<DestinationRequest, { type: 'postgres' }>
  readonly credential: CredentialConfig
  readonly user: SystemUser
  readonly address: () => Promise<InstanceAddress>
  /** Does what writes to the published instance without being a change of it. */
  readonly excludeFromChanges: <T>(work: () => Promise<T>) => Promise<T>
  readonly programs: Programs
  readonly label: string
  readonly workDirectory: string
  readonly claim: Claim
}

export function liveServer(options: LiveServerOptions): Destination {
  const { export: request, label, claim, programs } = options
  /** Databases that are not what they will be; those of one export follow each other. */
  const temporary = `howdah_${label}`
  let entered: Promise<LiveConnection> | undefined

  const enter = (): Promise<LiveConnection> => {
    entered ??= liveConnection(options)
    return entered
  }

  const exists = async (live: LiveConnection, database: string): Promise<boolean> =>
    live.json(
      MAINTENANCE_DATABASE,
      `SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = ${literal(database)}))`,
    )

  /** What was killed at this end may still be at work at the other. */
  const dropTemporary = (live: LiveConnection): Promise<string> =>
    live.sql(
      MAINTENANCE_DATABASE,
      `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = ${literal(temporary)};
       DROP DATABASE IF EXISTS ${quoted(temporary)}`,
    )

  async function restore(live: LiveConnection, dump: DatabaseDump, database: string): Promise<void> {
    const owners = await ownershipFlags(live, dump)
    const args = ['--exit-on-error', '--single-transaction', ...owners]
    await pipe(dump.start(['-Fc']), live.restore(database, args), dump.progress)
  }

  async function intoNew(
    live: LiveConnection,
    dump: DatabaseDump,
    database: string,
    renames: readonly TableRename[],
  ): Promise<void> {
    await dropTemporary(live)
    try {
      const properties = await propertiesOf(dump.snapshot)
      await live.sql(MAINTENANCE_DATABASE, createDatabaseSql(temporary, properties))
      await restore(live, dump, temporary)
      // Event triggers that came with the dump, which only a superuser can have made, are not for what is done here.
      const quiet = async (): Promise<string[]> => {
        const query = 'SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_event_trigger))'
        const there = await live.json<boolean>(temporary, query)
        return there ? ['SET LOCAL session_replication_role = replica'] : []
      }
      for (const rename of renames) {
        const dependents = await live.json<Dependent[]>(temporary, dependentsQuery(rename.from))
        const statements = [...(await quiet()), ...renameStatements(rename, dependents)]
        await live.sql(temporary, `BEGIN;\n${statements.join(';\n')};\nCOMMIT;`)
      }
      await live.sql(
        MAINTENANCE_DATABASE,
        `ALTER DATABASE ${quoted(temporary)} RENAME TO ${quoted(database)}`,
      )
    } catch (error) {
      await dropTemporary(live).catch(() => undefined)
      throw error
    }
  }

  const dropScratch = (address: InstanceAddress): Promise<void> =>
    options.excludeFromChanges(() => dropScratchDatabase(address, label))

  return {
    async open() {
      const { databases } = claim
      if (
        request.destination.type === 'postgres' &&
        request.destination.database !== undefined &&
        databases.length > 1
      )
        throw new HowdahError(
          'export_failed',
          `${databases.length} databases cannot all go into the database "${request.destination.database}"; export them one by one`,
          { field: 'destination.database' },
        )
      const live = await enter()
      await live.sql(MAINTENANCE_DATABASE, 'SELECT 1')
      await claim.save({ made: false, names: [] })
    },

    async write(dump) {
      const live = await enter()
      const database = destinationDatabaseName(dump.database, request)
      const path = `${live.where}/${database}`
      let bytes = 0
      const counted: DatabaseDump = {
        ...dump,
        progress: (now) => {
          bytes = now
          dump.progress(now)
        },
      }
      const renames = tableRenames(dump.database, request, dump.snapshot.tables)
      if (!(await exists(live, database))) {
        await intoNew(live, counted, database, renames)
        return { path, bytes }
      }
      await requireFree(live, database, dump.snapshot.tables, renames)
      if (renames.length === 0) {
        await restore(live, counted, database)
        return { path, bytes }
      }
      if (!request.tables)
        throw new HowdahError(
          'export_failed',
          `the database "${database}" exists on ${live.where}; tables are renamed there only when the export names its tables, or goes into a new database`,
          { field: 'rename' },
        )
      const owners = await ownershipFlags(live, dump)
      const address = await options.address()
      const notes = await options.excludeFromChanges(() =>
        copyRenamed({ live, database, dump: counted, renames, owners, address, programs, label }),
      )
      return { path, bytes, notes }
    },

    async finish() {
      return undefined
    },

    async discard() {
      if (!claim.claimed()) return []
      // Whatever keeps the instance from answering keeps the scratch database from lasting.
      if (request.tables && request.rename)
        await options
          .address()
          .then(dropScratch)
          .catch(() => undefined)
      const live = await enter()
      if (!(await exists(live, temporary))) return []
      await dropTemporary(live)
      return [`removed the database ${temporary} from ${live.where}`]
    },

    async close() {},
  }
}

/** @throws HowdahError `export_failed` that names what would be overwritten */
async function requireFree(
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
async function ownershipFlags(live: LiveConnection, { snapshot }: DatabaseDump): Promise<string[]> {
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
