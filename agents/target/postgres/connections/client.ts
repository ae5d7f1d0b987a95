/**
 * Connections to a published instance over its socket; no other file opens one. Queries behave the same whatever settings
 * the backup's roles and databases have.
 */
import pg from 'pg'
import { majorVersion } from '../specification.ts'
import { type SessionOptions, sessionOptions } from './session-settings.ts'

/** `application_name` of every connection that the agent makes. */
export const APPLICATION = 'howdah'

/** A role, and a database that it may connect to. */
export interface Identity extends Login {
  readonly database: string
}

export interface Login {
  readonly user: string
  /** A superuser that may not log in, and that `user`, as a member, sets as its role. */
  readonly role?: string | undefined
}

export interface ClientOptions extends SessionOptions {
  readonly socketDirectory: string
  readonly port: number
  /** Major version of the server, e.g. "15" or "9.6". */
  readonly version: string
  readonly as: Identity
  readonly connectTimeoutMs: number
  /** Default: no limit. */
  readonly queryTimeoutMs?: number | undefined
}

/**
 * Names and values in a SQL_ASCII database may have any bytes, and the server refuses to send invalid ones to a client with
 * the encoding UTF-8, which pg requests in every startup packet. So the client takes them unconverted.
 */
const DISABLE_CONVERSION = `
  SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false)
   WHERE pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.=) 'SQL_ASCII'`

/** @throws the error of the connection: a `pg.DatabaseError` when the server refused it */
export async function openClient(options: ClientOptions): Promise<pg.Client> {
  const { socketDirectory, port, version, as, connectTimeoutMs, queryTimeoutMs } = options
  // The server cancels the query too: one that waits for a lock would keep its backend without end.
  const timeout = queryTimeoutMs === undefined ? '' : ` -c statement_timeout=${queryTimeoutMs}`
  const client = new pg.Client({
    host: socketDirectory,
    port,
    user: as.user,
    database: as.database,
    ssl: false,
    application_name: APPLICATION,
    options: sessionOptions(majorVersion(version), { ...options, ...loginOptions(as) }) + timeout,
    connectionTimeoutMillis: connectTimeoutMs,
    ...(queryTimeoutMs !== undefined && { query_timeout: queryTimeoutMs }),
  })
  // A lost connection is reported by the query's rejection; without a listener it would also be an uncaught error.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(DISABLE_CONVERSION)
    return client
  } catch (error) {
    await endClient(client)
    throw error
  }
}

export async function endClient(client: pg.Client): Promise<void> {
  await client.end().catch(() => undefined)
}

/** The session options for a login. */
export function loginOptions({ role }: Login): SessionOptions {
  return role === undefined ? {} : { role, ordinary: true }
}

/** The SQLSTATE of a server's error; undefined for an error of the connection, whose codes may look alike. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

/** The full text of a server's error: its message with detail and hint, which often name the cause. */
export function serverMessage(error: unknown): string {
  if (!(error instanceof pg.DatabaseError)) return error instanceof Error ? error.message : String(error)
  const { message, detail, hint } = error
  const sentences = [message, detail, hint].filter((part) => part !== undefined && part !== '')
  return sentences.map((part) => part?.replace(/\.$/, '').replaceAll(/\s+/g, ' ')).join('. ')
}
