/** Connections to a published instance, over its socket and as a superuser. */
import type pg from 'pg'
import { HowdahError } from '../../../../messages/errors.ts'
import type { PublishedSession } from '../../session/published-session.ts'
import { findInstance } from '../instance.ts'
import type { InstanceSpec } from '../specification.ts'
import { endClient, openClient } from './client.ts'
import { connectAsSuperuser } from './superuser.ts'

export { APPLICATION } from './client.ts'

export interface InstanceAddress {
  readonly instance: InstanceSpec
  readonly socketDirectory: string
  readonly port: number
  /** A superuser, or a role that sets `role`. */
  readonly user: string
  /** A superuser that may not log in itself. */
  readonly role?: string | undefined
  /** A database that takes connections. */
  readonly database: string
}

const CONNECT_DEADLINE_MS = 30_000
const QUERY_DEADLINE_MS = 120_000

/** Where the session's instance accepts connections. @throws HowdahError `postgres_failed` when it does not run */
export async function instanceAddress(session: PublishedSession): Promise<InstanceAddress> {
  const connection = (await findInstance(session))?.result?.connection
  if (!connection) {
    throw new HowdahError('postgres_failed', `the instance of session ${session.session} does not run`)
  }
  const { socketDirectory, port, user, role, database = USUAL_DATABASE } = connection
  return { instance: session, socketDirectory, port, user, role, database }
}

const USUAL_DATABASE = 'postgres'

export interface ConnectOptions {
  /** Default: no limit. */
  readonly queryDeadlineMs?: number
  /** Uses the search path of role and database. Default: an empty one, so that names need a schema. */
  readonly ownSearchPath?: boolean
}

/** @throws the error of the connection */
export async function connectTo(
  { instance, socketDirectory, port, user, role }: InstanceAddress,
  database: string,
  { queryDeadlineMs, ownSearchPath = false }: ConnectOptions = {},
): Promise<pg.Client> {
  return openClient({
    socketDirectory,
    port,
    version: instance.version,
    as: { user, role, database },
    connectTimeoutMs: CONNECT_DEADLINE_MS,
    queryTimeoutMs: queryDeadlineMs,
    searchPath: ownSearchPath ? 'of the database' : 'none',
  })
}

/** The result of `work` on a connection of its own. */
export async function withClient<T>(
  address: InstanceAddress,
  database: string,
  work: (client: pg.Client) => Promise<T>,
  options: Pick<ConnectOptions, 'ownSearchPath'> = {},
): Promise<T> {
  const client = await connectTo(address, database, { queryDeadlineMs: QUERY_DEADLINE_MS, ...options })
  try {
    return await work(client)
  } finally {
    await endClient(client)
  }
}

/**
 * As `withClient`, in any database that accepts connections, for queries that are the same in all of them. `entered` is the
 * address with the login that was used: the superuser at the time of the publish may have lost that right.
 */
export async function withAnyDatabase<T>(
  address: InstanceAddress,
  work: (client: pg.Client, entered: InstanceAddress) => Promise<T>,
): Promise<T> {
  const { client, as } = await connectAsSuperuser(address.instance, {
    connectTimeoutMs: CONNECT_DEADLINE_MS,
    queryTimeoutMs: QUERY_DEADLINE_MS,
    known: address,
  })
  try {
    return await work(client, { ...address, role: undefined, ...as })
  } finally {
    await endClient(client)
  }
}

/** The address with a superuser and a database that exist now. */
export async function currentAddress(address: InstanceAddress): Promise<InstanceAddress> {
  return withAnyDatabase(address, async (_, entered) => entered)
}
