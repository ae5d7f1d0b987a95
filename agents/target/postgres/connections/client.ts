/**
 * Connections to a published instance over its socket: the only place that makes one. Whatever the backup's roles and
 * databases have for settings, what is asked here is answered alike.
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
  /** A superuser that may not log in, and that `user` becomes as a member of it. */
  readonly role?: string | undefined
}

export interface ClientOptions extends SessionOptions {
  readonly socketDirectory: string
  readonly port: number
  /** Major version of the server, e.g. "15" or "9.6". */
  readonly version: string
  readonly as: Identity
  readonly connectTimeoutMs: number
  /** What a query may take; default: as long as it likes. */
  readonly queryTimeoutMs?: number | undefined
}

/**
 * A database without an encoding may have any bytes in its names and values, which the server would refuse to give to
 * a client that wants UTF-8, as pg asks for in each startup packet.
 */
const TAKE_BYTES = `
  SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false)
   WHERE pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.=) 'SQL_ASCII'`

/** @throws the error of the connection: a `pg.DatabaseError` when the server refused it */
export async function openClient(options: ClientOptions): Promise<pg.Client> {
  const { socketDirectory, port, version, as, connectTimeoutMs, queryTimeoutMs } = options
  // The server ends the query too: one that waits for a lock would keep its connection for ever.
  const ending = queryTimeoutMs === undefined ? '' : ` -c statement_timeout=${queryTimeoutMs}`
  const client = new pg.Client({
    host: socketDirectory,
    port,
    user: as.user,
    database: as.database,
    ssl: false,
    application_name: APPLICATION,
    options: sessionOptions(majorVersion(version), { ...options, ...loginOptions(as) }) + ending,
    connectionTimeoutMillis: connectTimeoutMs,
    ...(queryTimeoutMs !== undefined && { query_timeout: queryTimeoutMs }),
  })
  // A server that goes away is told by the query's rejection; this keeps it from being an uncaught event too.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(TAKE_BYTES)
    return client
  } catch (error) {
    await endClient(client)
    throw error
  }
}

export async function endClient(client: pg.Client): Promise<void> {
  await client.end().catch(() => undefined)
}

/** What the options of a session have to be for who enters. */
export function loginOptions({ role }: Login): SessionOptions {
  return role === undefined ? {} : { role, ordinary: true }
}

/** The SQLSTATE of an error that a server gave; undefined for one of the connection, whose codes may look like it. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

/** All that a server said of an error: its message, and the detail and hint that name the cause. */
export function serverMessage(error: unknown): string {
  if (!(error instanceof pg.DatabaseError)) return error instanceof Error ? error.message : String(error)
  const { message, detail, hint } = error
  const sentences = [message, detail, hint].filter((part) => part !== undefined && part !== '')
  return sentences.map((part) => part?.replace(/\.$/, '').replaceAll(/\s+/g, ' ')).join('. ')
}
