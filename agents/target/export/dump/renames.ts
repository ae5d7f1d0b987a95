/** The names of databases and tables in a live server: the renames of a request, and the SQL for them. Pure. */

import { HowdahError } from '../../../../messages/errors.ts'
import type { ExportRequest } from '../../../../messages/exports.ts'
import { literal, quoted } from './names.ts'

export interface RelationName {
  readonly schema: string
  readonly name: string
}

export interface TableRename {
  readonly from: RelationName
  readonly to: RelationName
}

/** The name that a database gets. A rename whose `from` is a database's name is that of the database. */
export function destinationDatabaseName(
  database: string,
  { rename = [], destination }: ExportRequest,
): string {
  const renamed = rename.find(({ from }) => from === database)?.to
  return renamed ?? (destination.type === 'postgres' ? destination.database : undefined) ?? database
}

/**
 * The renames of tables of one database. Names are `table` or `schema.table`; a new name without a schema stays in the
 * schema that the table has.
 * @throws HowdahError `export_failed` for a rename of no table in the export
 */
export function tableRenames(
  database: string,
  { rename = [] }: ExportRequest,
  tables: readonly RelationName[],
): TableRename[] {
  return rename
    .filter(({ from }) => from !== database)
    .map(({ from, to }) => {
      const matching = tables.filter(({ schema, name }) => from === `${schema}.${name}` || from === name)
      const [table] = matching
      if (!table || matching.length > 1)
        throw new HowdahError(
          'export_failed',
          table
            ? `"${from}" of the rename is a table of several schemas; say which: ${matching.map(({ schema, name }) => `${schema}.${name}`).join(', ')}`
            : `"${from}" of the rename is neither the database nor a table that is exported from it`,
          { field: 'rename' },
        )
      return { from: table, to: newName(to, table.schema) }
    })
}

function newName(to: string, schema: string): RelationName {
  const dot = to.indexOf('.')
  return dot < 0 ? { schema, name: to } : { schema: to.slice(0, dot), name: to.slice(dot + 1) }
}

/** An object that belongs to a table and has a name in its schema. */
export interface Dependent extends RelationName {
  readonly kind: 'index' | 'sequence' | 'statistics'
}

/** A query for the dependents of a table, as one JSON array. */
export function dependentsQuery({ schema, name }: RelationName): string {
  const table = `${literal(`${quoted(schema)}.${quoted(name)}`)}::pg_catalog.regclass`
  return `SELECT coalesce(pg_catalog.json_agg(d), '[]') AS found FROM (
    SELECT 'index' AS kind, n.nspname AS schema, c.relname AS name
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE i.indrelid = ${table}
    UNION ALL
    SELECT 'sequence', n.nspname, c.relname
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.refobjid = ${table} AND d.deptype IN ('a', 'i')
    UNION ALL
    SELECT 'statistics', n.nspname, s.stxname
    FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
    WHERE s.stxrelid = ${table}) AS d`
}

/** Renames a table and its dependents, so that none conflicts with the names of the original. */
export function renameStatements({ from, to }: TableRename, dependents: readonly Dependent[]): string[] {
  const statements: string[] = []
  for (const { kind, schema, name } of dependents) {
    const keyword = { index: 'INDEX', sequence: 'SEQUENCE', statistics: 'STATISTICS' }[kind]
    const renamed = dependentName(name, from.name, to.name)
    statements.push(`ALTER ${keyword} ${quoted(schema)}.${quoted(name)} RENAME TO ${quoted(renamed)}`)
  }
  if (to.name !== from.name)
    statements.push(`ALTER TABLE ${quoted(from.schema)}.${quoted(from.name)} RENAME TO ${quoted(to.name)}`)
  if (to.schema !== from.schema) {
    statements.push(`CREATE SCHEMA IF NOT EXISTS ${quoted(to.schema)}`)
    // Indexes and owned sequences move with it.
    statements.push(`ALTER TABLE ${quoted(from.schema)}.${quoted(to.name)} SET SCHEMA ${quoted(to.schema)}`)
  }
  return statements
}

/** `orders_pkey` of `orders` becomes `orders_old_pkey` of `orders_old`; at most 63 bytes, PostgreSQL's limit. */
export function dependentName(name: string, table: string, renamed: string): string {
  if (table === renamed) return name
  const rest = name.startsWith(table) ? name.slice(table.length) : `_${name}`
  const room = MAX_NAME_BYTES - Buffer.byteLength(rest)
  return room < 1 ? truncated(`${renamed}${rest}`, MAX_NAME_BYTES) : `${truncated(renamed, room)}${rest}`
}

const MAX_NAME_BYTES = 63

function truncated(text: string, bytes: number): string {
  let short = text
  while (Buffer.byteLength(short) > bytes) short = short.slice(0, -1)
  return short
}
