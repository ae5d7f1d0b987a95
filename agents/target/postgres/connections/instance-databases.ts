/** The databases of a published instance, and which of them accept connections. */
import { isUtf8 } from 'node:buffer'
import type pg from 'pg'
import { serverMessage, sqlState } from './client.ts'
import { isTransientState } from './superuser.ts'

export interface InstanceDatabase {
  readonly name: string
  readonly isTemplate: boolean
  /** Why it accepts no connections, in words; undefined: it does, according to the catalog. */
  readonly closed: string | undefined
}

/** The connection limit that an interrupted DROP DATABASE leaves (catalog/pg_database.h, DATCONNLIMIT_INVALID_DB). */
const INVALID_LIMIT = -2

interface Row {
  readonly name: Buffer
  readonly open: boolean
  readonly template: boolean
  readonly limit: number
}

/**
 * SQL for the bytes of a database's name: pg_database has it in the encoding of the database in which it was created,
 * whichever database queries it, and a startup packet must have these bytes. `of`: alias of pg_database.
 */
export function rawName(of: string): string {
  // Encoding conversions reject bytes that are invalid in the current database; the input function of bytea takes them.
  return `pg_catalog.replace(${of}.datname::pg_catalog.text, pg_catalog.chr(92), pg_catalog.repeat(pg_catalog.chr(92), 2))::pg_catalog.bytea`
}

const DATABASES = `
  SELECT ${rawName('d')} AS name, datallowconn AS open, datistemplate AS template, datconnlimit AS "limit"
  FROM pg_catalog.pg_database AS d`

/** All databases, ordered by name. */
export async function listDatabases(client: pg.Client): Promise<InstanceDatabase[]> {
  const { rows } = await client.query<Row>(`${DATABASES} ORDER BY datname`)
  return rows.map(described)
}

/** Undefined: there is no database of that name. */
export async function findDatabase(client: pg.Client, name: string): Promise<InstanceDatabase | undefined> {
  const { rows } = await client.query<Row>(`${DATABASES} WHERE ${rawName('d')} = $1`, [Buffer.from(name)])
  return rows.map(described)[0]
}

/** Names in an error: of many only some. */
export function someNames(names: readonly string[]): string {
  const more = names.length - MAX_NAMED
  return `${names.slice(0, MAX_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

const MAX_NAMED = 20

const described = ({ name, open, template, limit }: Row): InstanceDatabase => ({
  name: name.toString(),
  isTemplate: template,
  closed: closedReason(name, open, limit),
})

function closedReason(name: Buffer, open: boolean, limit: number): string | undefined {
  if (!isUtf8(name)) return 'its name is not UTF-8; give it another one (ALTER DATABASE … RENAME)'
  if (limit === INVALID_LIMIT)
    return 'it is invalid: a DROP DATABASE of it was interrupted, and it can only be dropped'
  return open ? undefined : 'it takes no connections (ALTER DATABASE … ALLOW_CONNECTIONS true opens it)'
}

/**
 * Why a database could not be connected to or queried, in words, if the cause is the database itself.
 * @throws the error if it is transient, or one of the connection
 */
export function unusableReason(error: unknown): string {
  const state = sqlState(error)
  if (state === undefined || isTransientState(state)) throw error
  return serverMessage(error)
}
