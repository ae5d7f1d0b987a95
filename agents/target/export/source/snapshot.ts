/** An exported snapshot of a database, held open for pg_dump, with the row counts of its tables. */
import type pg from 'pg'
import { HowdahError } from '../../../../messages/errors.ts'
import { connectTo, type InstanceAddress, withClient } from '../../postgres/connections/instance-client.ts'
import { dumpPattern, patternRegexes, quoted } from '../dump/names.ts'

export interface Table {
  readonly oid: number
  readonly schema: string
  readonly name: string
}

export interface DatabaseSnapshot {
  /** For `pg_dump --snapshot`. */
  readonly id: string
  readonly at: string
  /** The encoding of the database. */
  readonly encoding: string
  /** Tables whose rows a dump with the patterns contains; approximate, as extensions may exclude some of theirs. */
  readonly tables: readonly Table[]
  /** Patterns for partitions, which pg_dump does not include with their parent. */
  readonly partitionPatterns: readonly string[]
  /** Number of rows of a table, without those of its children. */
  count(table: Table): Promise<number>
  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>
  close(): Promise<void>
}

const RELATIONS = `
  SELECT c.oid::int8::float8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

/** All descendants of a partitioned relation. */
const DESCENDANTS = `
  WITH RECURSIVE below AS (
    SELECT inhrelid FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
    WHERE p.relkind = 'p' AND i.inhparent = ANY ($1::oid[])
    UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.inhrelid)
  ${RELATIONS} AND c.oid IN (SELECT inhrelid FROM below)`

interface Relation extends Table {
  readonly kind: string
}

/**
 * Opens the snapshot of a database. Closed when the signal aborts.
 * @param patterns of tables, as in pg_dump; undefined: all tables
 * @param lockWaitMs how long counting waits for the lock of a table; default: no limit
 */
export async function openSnapshot(
  address: InstanceAddress,
  database: string,
  patterns: readonly string[] | undefined,
  signal: AbortSignal,
  lockWaitMs = 0,
): Promise<DatabaseSnapshot> {
  const client = await connectTo(address, database, { ownSearchPath: true })
  const pid = (client as { processID?: number }).processID
  const end = (): void => {
    void client.end().catch(() => undefined)
    // A running query would continue in the server.
    if (pid !== undefined)
      withClient(address, database, (other) => other.query('SELECT pg_terminate_backend($1)', [pid])).catch(
        () => undefined,
      )
  }
  signal.addEventListener('abort', end, { once: true })
  const close = async (): Promise<void> => {
    signal.removeEventListener('abort', end)
    await client.end().catch(() => undefined)
  }
  const query = async <Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []) =>
    (await client.query<Row>(text, [...values])).rows
  try {
    signal.throwIfAborted()
    const visible = await clearSearchPath(client)
    await client.query(`SET lock_timeout = ${lockWaitMs}`)
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const [head] = await query<{ id: string; at: Date; encoding: string }>(
      `SELECT pg_catalog.pg_export_snapshot() AS id, pg_catalog.now() AS at,
              pg_catalog.current_setting('server_encoding') AS encoding`,
    )
    if (!head) throw new Error('a query without conditions gave no row')
    const { all, partitionPatterns } = await relationsOf(query, visible, patterns)
    return {
      id: head.id,
      at: head.at.toISOString(),
      encoding: head.encoding,
      tables: all.filter(({ kind }) => kind === 'r'),
      partitionPatterns,
      async count(table) {
        const { text, values } = countQuery(table)
        const [row] = await query<{ rows: string }>(text, values)
        return Number(/\d+/.exec(row?.rows ?? '')?.[0] ?? 0)
      },
      query,
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Stands for bytes that are not UTF-8 in a name of a SQL_ASCII database. */
const REPLACEMENT = '\uFFFD'

/** A name that cannot be sent is inserted by the server: query_to_xml runs a query that it builds itself. */
function countQuery({ oid, schema, name }: Table): { text: string; values: unknown[] } {
  if (!`${schema}${name}`.includes(REPLACEMENT)) {
    const table = `${quoted(schema)}.${quoted(name)}`
    return { text: `SELECT pg_catalog.count(*) AS rows FROM ONLY ${table}`, values: [] }
  }
  const inner = `'SELECT pg_catalog.count(*) FROM ONLY ' || $1::pg_catalog.oid::pg_catalog.regclass`
  const text = `SELECT pg_catalog.regexp_replace(pg_catalog.query_to_xml(${inner}, false, true, '')::text, '<[^>]*>', '', 'g') AS rows`
  return { text, values: [oid] }
}

type Query = <Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<Row[]>

async function relationsOf(
  query: Query,
  visible: readonly string[],
  patterns: readonly string[] | undefined,
): Promise<{ all: Relation[]; partitionPatterns: string[] }> {
  if (!patterns) return { all: await query<Relation>(RELATIONS), partitionPatterns: [] }
  const found = new Map<number, Relation>()
  for (const relation of await matching(query, visible, patterns)) found.set(relation.oid, relation)
  if (found.size === 0)
    throw new HowdahError('export_failed', `it has no table ${patterns.join(', ')}`, { field: 'tables' })
  const below = await query<Relation>(DESCENDANTS, [[...found.keys()]])
  const added = below.filter(({ oid }) => !found.has(oid))
  return { all: [...found.values(), ...added], partitionPatterns: added.map(dumpPattern) }
}

/** Empties the search path. @returns the schemas of the previous one, in which `pg_dump --table` looks up names */
async function clearSearchPath(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ schemas: string[] }>(
    'SELECT pg_catalog.current_schemas(true)::pg_catalog.text[] AS schemas',
  )
  await client.query("SET search_path = ''")
  return rows[0]?.schemas ?? []
}

async function matching(
  query: Query,
  visible: readonly string[],
  patterns: readonly string[],
): Promise<Relation[]> {
  const regexes = patterns.map(patternRegexes)
  return query<Relation>(
    `${RELATIONS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND EXISTS (
       SELECT FROM unnest($1::text[], $2::text[]) AS p (schema, name)
       WHERE c.relname ~ p.name
         AND CASE WHEN p.schema IS NOT NULL THEN n.nspname ~ p.schema
             ELSE n.oid = (SELECT first.oid FROM unnest($3::text[]) WITH ORDINALITY AS s (schema, place)
                           JOIN pg_catalog.pg_namespace first ON first.nspname = s.schema
                           JOIN pg_catalog.pg_class same ON same.relnamespace = first.oid AND same.relname = c.relname
                           ORDER BY s.place LIMIT 1) END)`,
    [regexes.map(({ schema }) => schema ?? null), regexes.map(({ name }) => name), visible],
  )
}

/** Whether a database has a relation that one of the patterns matches. */
export async function hasMatch(
  address: InstanceAddress,
  database: string,
  patterns: readonly string[],
): Promise<boolean> {
  const look = async (client: pg.Client): Promise<boolean> => {
    const query: Query = async (text, values = []) => (await client.query(text, [...values])).rows
    return (await matching(query, await clearSearchPath(client), patterns)).length > 0
  }
  return withClient(address, database, look, { ownSearchPath: true })
}
