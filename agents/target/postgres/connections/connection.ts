/** Queries the state of an instance over its socket, and pauses or resumes its replay. */
import type pg from 'pg'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Paused } from '../../../../messages/values.ts'
import { type InstanceSpec, instancePaths, majorVersion } from '../specification.ts'
import { endClient, type Identity, openClient, serverMessage, sqlState } from './client.ts'
import { connectAsSuperuser, isTransientState } from './superuser.ts'

export type { Identity } from './client.ts'

export type Readiness =
  /** No socket yet, or the server is starting up. */
  | { readonly state: 'starting' }
  /** Promoted, accepts connections. */
  | ({ readonly state: 'ready' } & Answered)
  /** In recovery, accepts read-only connections. */
  | ({
      readonly state: 'recovering' | 'paused'
      readonly at: Paused
      /** It has tried all sources of WAL, and waits before it tries them again. */
      readonly waitsForWal: boolean
    } & Answered)
  /** Refuses connections for a reason that does not pass by itself. */
  | { readonly state: 'refused'; readonly reason: string }

interface Answered {
  /** The login of this query, which later queries can use. */
  readonly connectedAs: Identity
  /** Values at the time of the query. */
  readonly serverState: ServerState
  /** Names of subscriptions to other servers. */
  readonly subscriptions: readonly string[]
}

export interface ServerState {
  /** When the server read its configuration, ms since the epoch. */
  readonly configLoaded: number
  /** The current WAL segment; later ones are recycled files without valid contents. */
  readonly walSegment: string | undefined
}

/** One attempt. Returns within `timeoutMs` if its first connection does. `known`: a login that was admitted before. */
export async function queryReadiness(
  spec: InstanceSpec,
  timeoutMs: number,
  known?: Identity,
): Promise<Readiness> {
  try {
    const { client, as } = await connectAsSuperuser(spec, {
      connectTimeoutMs: timeoutMs,
      queryTimeoutMs: timeoutMs,
      known,
    })
    try {
      return await ask(spec, client, as)
    } finally {
      await endClient(client)
    }
  } catch (error) {
    if (error instanceof HowdahError) return { state: 'refused', reason: error.message }
    const state = sqlState(error)
    if (state === undefined || isTransientState(state)) return { state: 'starting' }
    const reason = `PostgreSQL does not report its state: ${serverMessage(error)} (SQLSTATE ${state})`
    return { state: 'refused', reason }
  }
}

interface StateRow extends ServerStateRow {
  readonly recovering: boolean
  readonly paused: boolean
  readonly waitsForWal: boolean
  readonly lsn: string | null
  readonly lastCommit: Date | null
  readonly subscriptions: string[]
}

async function ask(spec: InstanceSpec, client: pg.Client, connectedAs: Identity): Promise<Readiness> {
  const query = `SELECT ${recoveryColumns(spec)}, ${serverStateColumns(spec)}`
  const [row] = (await client.query<StateRow>(query)).rows
  if (row === undefined) return { state: 'starting' }
  const answered = { connectedAs, serverState: serverStateOf(row), subscriptions: row.subscriptions }
  if (!row.recovering) return { state: 'ready', ...answered }
  const { lsn, lastCommit } = row
  if (lsn === null) return { state: 'starting' }
  const at = { lsn, ...(lastCommit !== null && { lastCommit: lastCommit.toISOString() }) }
  const { paused, waitsForWal } = row
  return { state: paused ? 'paused' : 'recovering', at, waitsForWal, ...answered }
}

/** Function names of each version: PostgreSQL documentation, "Recovery Control Functions". */
function recoveryColumns(spec: InstanceSpec): string {
  const version = majorVersion(spec.version)
  const [wal, position] = version >= 10 ? ['wal', 'lsn'] : ['xlog', 'location']
  const subscriptions =
    version >= 10
      ? `(SELECT coalesce(array_agg(subname::text ORDER BY subname), '{}') FROM pg_catalog.pg_subscription)`
      : `'{}'::text[]`
  // PostgreSQL documentation, "Wait Events of Type Timeout".
  const waits =
    version >= 13
      ? `EXISTS (SELECT FROM pg_catalog.pg_stat_activity
                 WHERE backend_type = 'startup' AND wait_event = 'RecoveryRetrieveRetryInterval')`
      : 'false'
  return `pg_is_in_recovery() AS recovering,
            ${waits} AS "waitsForWal",
            CASE WHEN pg_is_in_recovery() THEN pg_is_${wal}_replay_paused() ELSE false END AS paused,
            pg_last_${wal}_replay_${position}()::text AS lsn,
            pg_last_xact_replay_timestamp() AS "lastCommit",
            ${subscriptions} AS subscriptions`
}

/** Pauses or resumes the replay of a standby. */
export async function controlReplay(
  spec: InstanceSpec,
  as: Identity,
  verb: 'pause' | 'resume',
  timeoutMs: number,
): Promise<void> {
  const wal = majorVersion(spec.version) >= 10 ? 'wal' : 'xlog'
  await queryRow(spec, as, `SELECT pg_${wal}_replay_${verb}()`, timeoutMs)
}

/** @throws the error of the connection */
export async function queryServerState(
  spec: InstanceSpec,
  as: Identity,
  timeoutMs: number,
): Promise<ServerState | undefined> {
  const row = await queryRow<ServerStateRow>(spec, as, `SELECT ${serverStateColumns(spec)}`, timeoutMs)
  return row && serverStateOf(row)
}

interface ServerStateRow {
  readonly loaded: number
  readonly segment: string | null
}

/** Version 10 renamed the WAL functions; both variants fail during recovery. */
function serverStateColumns({ version }: InstanceSpec): string {
  const segment =
    majorVersion(version) >= 10
      ? 'pg_walfile_name(pg_current_wal_insert_lsn())'
      : 'pg_xlogfile_name(pg_current_xlog_insert_location())'
  return `(extract(epoch FROM pg_conf_load_time()) * 1000)::float8 AS loaded,
          CASE WHEN NOT pg_is_in_recovery() THEN ${segment} END AS segment`
}

function serverStateOf({ loaded, segment }: ServerStateRow): ServerState {
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
  const client = await openClient({
    socketDirectory: instancePaths(spec).run,
    port: spec.port,
    version: spec.version,
    as,
    connectTimeoutMs: timeoutMs,
    queryTimeoutMs: timeoutMs,
  })
  try {
    return (await client.query<Row>(query, [...values])).rows[0]
  } finally {
    await endClient(client)
  }
}
