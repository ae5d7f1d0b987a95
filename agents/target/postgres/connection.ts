/** Asks an instance over its socket what state it is in, and finds a superuser of it. */
import pg from 'pg'
import type { Paused } from '../../../messages/definitions.ts'
import { type InstanceSpec, instancePaths, majorVersion } from './specification.ts'

export type Readiness =
  /** Not there yet: no socket, or starting up. */
  | { readonly state: 'starting' }
  /** Promoted and accepting. */
  | ({ readonly state: 'ready' } & Answered)
  /** In recovery, and lets readers in. */
  | ({ readonly state: 'recovering' | 'paused'; readonly at: Paused } & Answered)
  /** Accepting, but something is wrong that waiting does not mend. */
  | { readonly state: 'refused'; readonly reason: string }

interface Answered {
  /** Undefined, as the others, when none of the roles that we know exists. */
  readonly superuser: string | undefined
  /** Who asked, and can ask again. */
  readonly connectedAs: Identity | undefined
  /** What was true when it was asked; undefined when nobody could ask. */
  readonly moment: Moment | undefined
  /** Names of subscriptions to other servers. */
  readonly subscriptions: readonly string[]
}

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
  return {
    state: 'ready',
    superuser: undefined,
    connectedAs: undefined,
    moment: undefined,
    subscriptions: [],
  }
}

interface StateRow extends MomentRow {
  readonly recovering: boolean
  readonly paused: boolean
  readonly lsn: string | null
  readonly lastCommit: Date | null
  readonly superuser: string | null
  readonly subscriptions: string[]
}

async function ask(spec: InstanceSpec, as: Identity, timeoutMs: number): Promise<Readiness> {
  const query = `SELECT ${recoveryColumns(spec)},
            (SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper AND rolcanlogin
             ORDER BY rolname = current_user DESC, oid LIMIT 1) AS superuser,
            ${momentColumns(spec)}`
  const row = await queryRow<StateRow>(spec, as, query, timeoutMs)
  if (row === undefined) return { state: 'starting' }
  const answered = {
    superuser: row.superuser ?? undefined,
    connectedAs: as,
    moment: momentOf(row),
    subscriptions: row.subscriptions,
  }
  if (!row.recovering) return { state: 'ready', ...answered }
  const { lsn, lastCommit } = row
  if (lsn === null) return { state: 'starting' }
  const at = { lsn, ...(lastCommit !== null && { lastCommit: lastCommit.toISOString() }) }
  return { state: row.paused ? 'paused' : 'recovering', at, ...answered }
}

/** Functions by their names of each version: PostgreSQL documentation, "Recovery Control Functions". */
function recoveryColumns(spec: InstanceSpec): string {
  const version = majorVersion(spec.version)
  const [wal, position] = version >= 10 ? ['wal', 'lsn'] : ['xlog', 'location']
  const subscriptions =
    version >= 10
      ? `(SELECT coalesce(array_agg(subname::text ORDER BY subname), '{}') FROM pg_catalog.pg_subscription)`
      : `'{}'::text[]`
  return `pg_is_in_recovery() AS recovering,
            CASE WHEN pg_is_in_recovery() THEN pg_is_${wal}_replay_paused() ELSE false END AS paused,
            pg_last_${wal}_replay_${position}()::text AS lsn,
            pg_last_xact_replay_timestamp() AS "lastCommit",
            ${subscriptions} AS subscriptions`
}

/** Asks a standby to stand still where it is, or lets it go on. */
export async function holdReplay(
  spec: InstanceSpec,
  as: Identity,
  verb: 'pause' | 'resume',
  timeoutMs: number,
): Promise<void> {
  const wal = majorVersion(spec.version) >= 10 ? 'wal' : 'xlog'
  await queryRow(spec, as, `SELECT pg_${wal}_replay_${verb}()`, timeoutMs)
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

/** The first row of a query, on a connection of its own. @throws the error of the connection, or of the query */
export async function queryRow<Row extends object>(
  spec: InstanceSpec,
  as: Identity,
  query: string,
  timeoutMs: number,
  values: readonly unknown[] = [],
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
    return (await client.query<Row>(query, [...values])).rows[0]
  } finally {
    await client.end().catch(() => undefined)
  }
}
