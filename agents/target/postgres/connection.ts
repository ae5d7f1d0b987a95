/** Asks a starting instance over its socket whether it is usable, and finds a superuser of it. */
import pg from 'pg'
import { type InstanceSpec, instancePaths, majorVersion } from './specification.ts'

export type Readiness =
  /** Not there yet: no socket, starting up, or still in recovery. */
  | { readonly state: 'starting' }
  /** Promoted and accepting. Both are undefined when none of the roles that we know exists. */
  | {
      readonly state: 'ready'
      readonly superuser: string | undefined
      /** Who asked, and can ask again. */
      readonly connectedAs: Identity | undefined
      /** What was true when it was asked; undefined when nobody could ask. */
      readonly moment: Moment | undefined
    }
  /** Accepting, but something is wrong that waiting does not mend. */
  | { readonly state: 'refused'; readonly reason: string }

export interface Moment {
  /** When the server read its configuration, ms since the epoch. */
  readonly configLoaded: number
  /** The WAL segment that is written to: those after it were kept for use again, and hold nothing yet. */
  readonly walSegment: string | undefined
}

/** A role, and a database that it may connect to. */
export interface Identity {
  readonly user: string
  readonly database: string
}

/** SQLSTATE codes (PostgreSQL documentation, appendix A). */
const CANNOT_CONNECT_NOW = '57P03'
const INVALID_AUTHORIZATION = '28000'
const INVALID_CATALOG_NAME = '3D000'
const NOT_IN_PREREQUISITE_STATE = '55000'
const TOO_MANY_CONNECTIONS = '53300'

/** One attempt; answers within `timeoutMs`. */
export async function askReadiness(spec: InstanceSpec, timeoutMs: number): Promise<Readiness> {
  for (const user of new Set(['postgres', spec.user.name])) {
    for (const database of ['postgres', 'template1']) {
      try {
        return await ask(spec, { user, database }, timeoutMs)
      } catch (error) {
        const { code, message } = error as { code?: string; message: string }
        if (code === INVALID_AUTHORIZATION) break
        if (code === INVALID_CATALOG_NAME || code === NOT_IN_PREREQUISITE_STATE) continue
        // EPIPE of a connection that broke looks like one.
        const sqlState = error instanceof pg.DatabaseError && code !== undefined
        if (
          !sqlState ||
          code === CANNOT_CONNECT_NOW ||
          code === TOO_MANY_CONNECTIONS ||
          code.startsWith('57')
        )
          return { state: 'starting' }
        return { state: 'refused', reason: `${message} (SQLSTATE ${code})` }
      }
    }
  }
  // A role is looked up only after recovery, as nobody is let in before.
  return { state: 'ready', superuser: undefined, connectedAs: undefined, moment: undefined }
}

async function ask(spec: InstanceSpec, as: Identity, timeoutMs: number): Promise<Readiness> {
  const row = await queryRow<{ usable: boolean; superuser: string | null } & MomentRow>(
    spec,
    as,
    `SELECT NOT pg_is_in_recovery() AS usable,
            (SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper AND rolcanlogin
             ORDER BY rolname = current_user DESC, oid LIMIT 1) AS superuser,
            ${momentColumns(spec)}`,
    timeoutMs,
  )
  if (row?.usable !== true) return { state: 'starting' }
  return { state: 'ready', superuser: row.superuser ?? undefined, connectedAs: as, moment: momentOf(row) }
}

/** @throws the error of the connection */
export async function askMoment(
  spec: InstanceSpec,
  as: Identity,
  timeoutMs: number,
): Promise<Moment | undefined> {
  const row = await queryRow<MomentRow>(spec, as, `SELECT ${momentColumns(spec)}`, timeoutMs)
  return row && momentOf(row)
}

interface MomentRow {
  readonly loaded: number
  readonly segment: string | null
}

/** The functions of WAL got their names in version 10; both fail while a server recovers. */
function momentColumns({ version }: InstanceSpec): string {
  const segment =
    majorVersion(version) >= 10
      ? 'pg_walfile_name(pg_current_wal_insert_lsn())'
      : 'pg_xlogfile_name(pg_current_xlog_insert_location())'
  return `(extract(epoch FROM pg_conf_load_time()) * 1000)::float8 AS loaded,
          CASE WHEN NOT pg_is_in_recovery() THEN ${segment} END AS segment`
}

function momentOf({ loaded, segment }: MomentRow): Moment {
  return { configLoaded: loaded, walSegment: segment ?? undefined }
}

/** The first row of a query, on a connection of its own. */
async function queryRow<Row extends object>(
  spec: InstanceSpec,
  as: Identity,
  query: string,
  timeoutMs: number,
): Promise<Row | undefined> {
  const client = new pg.Client({
    host: instancePaths(spec).run,
    port: spec.port,
    ...as,
    ssl: false,
    application_name: 'howdah',
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
  })
  // A server that goes away is told by the query's rejection; this keeps it from being an uncaught event too.
  client.on('error', () => undefined)
  try {
    await client.connect()
    return (await client.query<Row>(query)).rows[0]
  } finally {
    await client.end().catch(() => undefined)
  }
}
