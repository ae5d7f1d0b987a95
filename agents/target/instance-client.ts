/** Connections to a published instance, over its socket and as a superuser of it. */
import pg from 'pg'
import { HowdahError } from '../../messages/errors.ts'
import { findInstance } from './postgres/instance.ts'
import type { PublishedSession } from './published-session.ts'

export interface InstanceAddress {
  readonly socketDirectory: string
  readonly port: number
  /** A superuser. */
  readonly user: string
}

/** `application_name` of every connection that the agent makes. */
export const APPLICATION = 'howdah'

const CONNECT_DEADLINE_MS = 30_000
const QUERY_DEADLINE_MS = 120_000
/** Settings by which a database or role could end a connection that has to wait, or a query of it. */
const TIMEOUTS = [
  'statement_timeout',
  'lock_timeout',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'transaction_timeout',
]

/** Where the session's instance accepts connections. @throws HowdahError `postgres_failed` when it does not run */
export async function instanceAddress(session: PublishedSession): Promise<InstanceAddress> {
  const connection = (await findInstance(session))?.result?.connection
  if (!connection) {
    throw new HowdahError('postgres_failed', `the instance of session ${session.session} does not run`)
  }
  const { socketDirectory, port, user } = connection
  return { socketDirectory, port, user }
}

/** @param queryDeadlineMs what a query may take; default: as long as it likes @throws the error of the connection */
export async function connectTo(
  { socketDirectory, port, user }: InstanceAddress,
  database: string,
  queryDeadlineMs?: number,
): Promise<pg.Client> {
  const client = new pg.Client({
    host: socketDirectory,
    port,
    user,
    database,
    ssl: false,
    application_name: APPLICATION,
    connectionTimeoutMillis: CONNECT_DEADLINE_MS,
    ...(queryDeadlineMs !== undefined && { query_timeout: queryDeadlineMs }),
  })
  // A server that goes away is told by the query's rejection; this keeps it from being an uncaught event too.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY ($1)", [
      TIMEOUTS,
    ])
    return client
  } catch (error) {
    await client.end().catch(() => undefined)
    throw error
  }
}

/** What `work` gives on a connection of its own. */
export async function withClient<T>(
  address: InstanceAddress,
  database: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connectTo(address, database, QUERY_DEADLINE_MS)
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** As `withClient`, in the database that every cluster has, for what is the same in all of them. */
export async function withAnyDatabase<T>(
  address: InstanceAddress,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connectTo(address, 'postgres', QUERY_DEADLINE_MS).catch((error: { code?: string }) => {
    if (error.code !== INVALID_CATALOG_NAME) throw error
    return connectTo(address, 'template1', QUERY_DEADLINE_MS)
  })
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** SQLSTATE (PostgreSQL documentation, appendix A). */
const INVALID_CATALOG_NAME = '3D000'
