/**
 * Copies tables under other names into an existing database, in one transaction of one session there.
 *
 * Names cannot be replaced reliably in the text of a dump, so they are changed before it: the schema, without rows, is
 * copied to a scratch database of the published instance, where PostgreSQL itself renames the tables; pg_dump then dumps the
 * result. The rows are copied from the original database, by COPY in the snapshot of the export.
 */
import { once } from 'node:events'
import { HowdahError } from '../../../../messages/errors.ts'
import {
  type InstanceAddress,
  withAnyDatabase,
  withClient,
} from '../../postgres/connections/instance-client.ts'
import type { DatabaseDump } from '../destinations/destination.ts'
import { awaitAll, type LiveConnection } from '../destinations/live-connection.ts'
import { createDatabaseSql, propertiesOf } from '../source/database-properties.ts'
import { type InstancePrograms, instancePrograms } from '../source/instance-programs.ts'
import { exactPattern, literal, quoted } from './names.ts'
import type { Programs, RunningProgram } from './programs.ts'
import {
  type Dependent,
  dependentsQuery,
  type RelationName,
  renameStatements,
  type TableRename,
} from './renames.ts'

export interface CopyRenamedOptions {
  readonly live: LiveConnection
  readonly database: string
  readonly dump: DatabaseDump
  readonly renames: readonly TableRename[]
  /** Flags of pg_dump from `ownershipFlags`. */
  readonly owners: readonly string[]
  readonly address: InstanceAddress
  readonly programs: Programs
  readonly label: string
}

/** @returns what is omitted, in words */
export async function copyRenamed(options: CopyRenamedOptions): Promise<string[]> {
  const { live, database, dump, renames, owners, address, programs, label } = options
  const { snapshot } = dump
  const { encoding } = snapshot
  const instance = instancePrograms(programs, address)
  const scratch = scratchName(label)
  const drop = (): Promise<void> => dropScratchDatabase(address, label)
  await requireWritable(address)
  await drop()
  try {
    const create = createDatabaseSql(scratch, await propertiesOf(snapshot))
    await withAnyDatabase(address, (client) => client.query(create))
    await copySchema(dump, instance, scratch)
    const nameOf = (table: RelationName): RelationName =>
      renames.find(({ from }) => from.schema === table.schema && from.name === table.name)?.to ?? table
    const tables = snapshot.tables.map((table) => ({ from: table, to: nameOf(table) }))
    const notes = await withClient(address, scratch, async (client) => {
      // Event triggers were copied with the schema, and would fire on the following statements.
      const { rows: triggers } = await client.query<{ name: string }>(
        'SELECT evtname::text AS name FROM pg_catalog.pg_event_trigger',
      )
      for (const { name } of triggers) await client.query(`DROP EVENT TRIGGER ${quoted(name)}`)
      const dropped = await client.query<{ statement: string; note: string }>(
        leavingKeysQuery(snapshot.tables),
      )
      for (const { statement } of dropped.rows) await client.query(statement)
      for (const rename of renames) {
        const { rows } = await client.query<{ found: Dependent[] }>(dependentsQuery(rename.from))
        for (const statement of renameStatements(rename, rows[0]?.found ?? [])) await client.query(statement)
      }
      return dropped.rows.map(({ note }) => note)
    })
    const wanted = tables.flatMap(({ to }) => ['-t', exactPattern(to)])
    const section = (name: string): RunningProgram =>
      instance.dump(scratch, encoding, ['-Fp', `--section=${name}`, ...owners, ...wanted])
    const target = live.script(database)
    target.stdout.resume()
    try {
      const schemas = new Set(
        renames.filter(({ from, to }) => from.schema !== to.schema).map(({ to }) => to.schema),
      )
      const creations = [...schemas].map((name) => `CREATE SCHEMA IF NOT EXISTS ${quoted(name)};\n`)
      await feed(target, `BEGIN;\n${creations.join('')}`)
      await feedFrom(target, section('pre-data'))
      await feed(target, OUR_ENCODING)
      let bytes = 0
      for (const { from, to } of tables) {
        dump.tableStarted(from)
        const columns = await columnsOf(dump, from)
        if (columns.length === 0) continue
        const list = columns.map(quoted).join(', ')
        await feed(
          target,
          `COPY ${exactPattern(to)} (${list}) FROM stdin WITH (ENCODING ${literal(encoding)});\n`,
        )
        await feedFrom(target, copyOut(dump, instance, from, list), (more) => {
          bytes += more
          dump.progress(bytes)
        })
        await feed(target, '\\.\n')
      }
      await feed(target, await sequenceValues(options, scratch, tables))
      await feedFrom(target, section('post-data'))
      // A script that ends before this line has changed nothing.
      await feed(target, '\nCOMMIT;\n')
      target.stdin.end()
      await target.done
    } catch (error) {
      target.kill()
      await target.done.catch(() => undefined)
      throw error
    }
    return notes
  } finally {
    await drop().catch(() => undefined)
  }
}

/** Drops the scratch database that a killed copy left in the published instance. Safe to repeat. */
export async function dropScratchDatabase(address: InstanceAddress, label: string): Promise<void> {
  await withAnyDatabase(address, (client) =>
    client.query(`DROP DATABASE IF EXISTS ${quoted(scratchName(label))}`),
  )
}

function scratchName(label: string): string {
  return `howdah_${label}`.slice(0, 63)
}

async function requireWritable(address: InstanceAddress): Promise<void> {
  const recovering = await withAnyDatabase(address, async (client) => {
    const { rows } = await client.query<{ recovering: boolean }>('SELECT pg_is_in_recovery() AS recovering')
    return rows[0]?.recovering === true
  })
  if (recovering)
    throw new HowdahError(
      'export_failed',
      'tables can be renamed on their way into a database that exists only while the published instance is writable; promote it, or export into a new database',
      { field: 'rename' },
    )
}

/** The output of pg_dump sets its own client encoding; the following statements are UTF-8. */
const OUR_ENCODING = "SET client_encoding = 'UTF8';\n"

/** Copies the whole schema, since tables may use any type or function of it. Objects that cannot be created are skipped. */
async function copySchema(
  { database, snapshot }: DatabaseDump,
  { dump, psql }: InstancePrograms,
  scratch: string,
): Promise<void> {
  const from = dump(database, snapshot.encoding, ['-Fp', '--schema-only', `--snapshot=${snapshot.id}`])
  const to = psql(scratch, ['-f', '-'])
  to.stdout.resume()
  from.stdout.pipe(to.stdin)
  await awaitAll([from, to])
}

/** Starts COPY TO STDOUT of a table, in the snapshot of the export and the encoding of the database. */
function copyOut(
  { database, snapshot }: DatabaseDump,
  { psql }: InstancePrograms,
  table: RelationName,
  columns: string,
): RunningProgram {
  const statements = [
    'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY',
    `SET TRANSACTION SNAPSHOT ${literal(snapshot.id)}`,
    `COPY ${exactPattern(table)} (${columns}) TO STDOUT WITH (ENCODING ${literal(snapshot.encoding)})`,
  ]
  return ended(
    psql(database, ['-v', 'ON_ERROR_STOP=1', ...statements.flatMap((statement) => ['-c', statement])]),
  )
}

/** The columns of a table without generated ones, which cannot be written. */
async function columnsOf({ snapshot }: DatabaseDump, table: RelationName): Promise<string[]> {
  const rows = await snapshot.query<{ name: string }>(
    `SELECT attname AS name FROM pg_catalog.pg_attribute a
     WHERE attrelid = $1::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped
       AND coalesce(pg_catalog.row_to_json(a)->>'attgenerated', '') = '' ORDER BY attnum`,
    [exactPattern(table)],
  )
  return rows.map(({ name }) => name)
}

/** Foreign keys to tables outside the export: those may not exist there, and would be locked while the key is created. */
function leavingKeysQuery(tables: readonly RelationName[]): string {
  const names = tables.map((table) => `${literal(exactPattern(table))}::pg_catalog.regclass`).join(', ')
  return `
    SELECT pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::pg_catalog.regclass, conname) AS statement,
           pg_catalog.format('foreign key %s of %s to %s is left out', conname, conrelid::pg_catalog.regclass,
                             confrelid::pg_catalog.regclass) AS note
    FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid IN (${names}) AND confrelid NOT IN (${names})
      AND NOT coalesce((pg_catalog.row_to_json(pg_constraint)->>'conparentid')::oid::int8, 0) > 0`
}

/** Statements that set the sequences of the tables, by their new names, to their current values. */
async function sequenceValues(
  { address, dump }: CopyRenamedOptions,
  scratch: string,
  tables: readonly { readonly from: RelationName; readonly to: RelationName }[],
): Promise<string> {
  const statements: string[] = []
  for (const { from, to } of tables) {
    const [here] = await dump.snapshot.query<{ found: Dependent[] }>(dependentsQuery(from))
    const owned = (here?.found ?? []).filter(({ kind }) => kind === 'sequence')
    if (owned.length === 0) continue
    const columns = await ownedColumns((text) => dump.snapshot.query(text), from)
    const there = await withClient(address, scratch, (client) =>
      ownedColumns(async (text) => (await client.query(text)).rows as OwnedSequence[], to),
    )
    for (const { column, sequence } of columns) {
      const renamed = there.find((other) => other.column === column)?.sequence
      const [state] = await dump.snapshot.query<{ last: string; called: boolean }>(
        `SELECT last_value::text AS last, is_called AS called FROM ${sequence}`,
      )
      if (renamed !== undefined && state)
        statements.push(`SELECT pg_catalog.setval(${literal(renamed)}, ${state.last}, ${state.called});\n`)
    }
  }
  return statements.join('')
}

interface OwnedSequence {
  readonly column: string
  readonly sequence: string
}

function ownedColumns(
  query: (text: string) => Promise<OwnedSequence[]>,
  table: RelationName,
): Promise<OwnedSequence[]> {
  const name = literal(exactPattern(table))
  return query(
    `SELECT attname AS column, pg_catalog.pg_get_serial_sequence(${name}, attname) AS sequence
     FROM pg_catalog.pg_attribute WHERE attrelid = ${name}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped
       AND pg_catalog.pg_get_serial_sequence(${name}, attname) IS NOT NULL`,
  )
}

function ended(program: RunningProgram): RunningProgram {
  program.stdin.end()
  return program
}

/** Writes to a program's stdin with backpressure. @throws the program's error if it has ended */
async function feed(target: RunningProgram, chunk: string | Buffer): Promise<void> {
  if (chunk.length === 0 || target.stdin.write(chunk)) return
  await Promise.race([once(target.stdin, 'drain'), target.done.then(endedEarly)])
}

function endedEarly(): never {
  throw new HowdahError('export_failed', 'the script ended before all of it was read')
}

async function feedFrom(
  target: RunningProgram,
  source: RunningProgram,
  progress: (bytes: number) => void = () => undefined,
): Promise<void> {
  try {
    for await (const chunk of source.stdout as AsyncIterable<Buffer>) {
      progress(chunk.length)
      await feed(target, chunk)
    }
    await source.done
  } catch (error) {
    source.kill()
    throw error
  }
}
