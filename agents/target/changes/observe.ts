/** Queries the transaction ids and statistics of a published instance, from which its changes are detected. */
import type pg from 'pg'
import { type InstanceAddress, withAnyDatabase, withClient } from '../postgres/connections/instance-client.ts'
import { rawName, unusableReason } from '../postgres/connections/instance-databases.ts'
import type { Mark, Observation } from './detection.ts'
import type { Counters } from './record.ts'

/**
 * Seconds after which the statistics certainly include what a client did. Source: pgstat.c, PGSTAT_IDLE_INTERVAL is 10 s
 * since version 15. Before, an idle backend may hold back its last counts as long as it is connected.
 */
const COUNTED_AFTER_S = 15
const REPORTS_WHEN_IDLE = 150_000

/** pg_statistic and pg_statistic_ext_data, which ANALYZE writes; oids from their headers, the same in all versions. */
const STATISTICS_CATALOGS = [2619, 3429]

const QUERY = `
  SELECT pg_catalog.pg_is_in_recovery() AS recovering,
         pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())::text AS xid,
         coalesce((SELECT stats_reset::text FROM pg_catalog.pg_stat_bgwriter), '') AS epoch,
         (SELECT coalesce(sum(tup_inserted + tup_updated + tup_deleted), 0)::float8
            FROM pg_catalog.pg_stat_database WHERE datid = 0) AS shared`

/**
 * Databases that accept no connections, or are invalid, are left out: nothing can be written there. The counters are queried
 * by OID: pg_database is seldom analyzed, and a join of 5,000 databases with pg_stat_database then takes seconds.
 */
const DATABASES_QUERY = `
  SELECT ${rawName('d')} AS name,
         (pg_catalog.pg_stat_get_db_tuples_inserted(d.oid) + pg_catalog.pg_stat_get_db_tuples_updated(d.oid)
          + pg_catalog.pg_stat_get_db_tuples_deleted(d.oid))::float8 AS written
    FROM pg_catalog.pg_database d
   WHERE d.datallowconn AND d.datconnlimit <> -2`
const DATABASE_QUERY = `${DATABASES_QUERY} AND ${rawName('d')} = $1`

interface DatabaseRow {
  readonly name: Buffer
  readonly written: number
}

interface Row {
  readonly recovering: boolean
  readonly xid: string
  readonly epoch: string
  readonly shared: number
}

/**
 * Undefined: the instance is in recovery, so nothing can have been changed.
 * @param before an earlier observation: only databases in which something was written since are connected to
 */
export async function observe(
  address: InstanceAddress,
  before?: Observation,
): Promise<Observation | undefined> {
  const { row, quiet, written, entered } = await withAnyDatabase(address, async (client, entered) => {
    const row = await queryBasics(client)
    const written = row.recovering ? [] : (await client.query<DatabaseRow>(DATABASES_QUERY)).rows
    return { row, quiet: await isQuiet(client, []), written, entered }
  })
  if (row.recovering) return undefined
  const known = before?.epoch === row.epoch ? before.databases : undefined
  const databases = new Map<string, Counters>()
  for (const { name, written: tuples } of written) {
    const database = name.toString()
    const earlier = known?.get(database)
    databases.set(
      database,
      earlier?.written === tuples ? earlier : await countersOf(entered, database, tuples),
    )
  }
  return { xid: BigInt(row.xid), epoch: row.epoch, databases, shared: row.shared, quiet }
}

/** Where the changes of one database stand. Undefined: the instance is in recovery, or has no such database. */
export async function observeDatabase(address: InstanceAddress, database: string): Promise<Mark | undefined> {
  const found = await withAnyDatabase(address, async (client, entered) => {
    const row = await queryBasics(client)
    const { rows } = await client.query<DatabaseRow>(DATABASE_QUERY, [Buffer.from(database)])
    return { row, entered, written: rows[0]?.written }
  })
  const { row, entered, written } = found
  if (row.recovering || written === undefined) return undefined
  const counters = await countersOf(entered, database, written)
  return { xid: BigInt(row.xid), epoch: row.epoch, counters }
}

async function countersOf(address: InstanceAddress, database: string, written: number): Promise<Counters> {
  return { written, statistics: written > 0 ? await analyzed(address, database) : 0 }
}

/** Tuples written by ANALYZE. 0 where the database cannot be queried, so that all its writes count as changes. */
async function analyzed(address: InstanceAddress, database: string): Promise<number> {
  try {
    return await withClient(address, database, analyzedIn)
  } catch (error) {
    unusableReason(error)
    return 0
  }
}

/** The state at the end of a recovery. Undefined: the instance is still in recovery. */
export async function observeStart(
  address: InstanceAddress,
): Promise<Pick<Observation, 'xid' | 'epoch'> | undefined> {
  const row = await withAnyDatabase(address, queryBasics)
  return row.recovering ? undefined : { xid: BigInt(row.xid), epoch: row.epoch }
}

/** Whether no client except the agent was active recently. Clients of the databases in `except` are ignored. */
export async function isQuiet(client: pg.Client, except: readonly string[]): Promise<boolean> {
  const { rows } = await client.query<{ quiet: boolean }>(
    `SELECT NOT EXISTS (
       SELECT FROM pg_catalog.pg_stat_activity
       WHERE datname IS NOT NULL AND datname <> ALL ($1) AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
         AND application_name NOT LIKE 'howdah%'
         AND (current_setting('server_version_num')::int < $2 OR state <> 'idle'
              OR state_change > clock_timestamp() - make_interval(secs => $3))) AS quiet`,
    [except, REPORTS_WHEN_IDLE, COUNTED_AFTER_S],
  )
  return rows[0]?.quiet === true
}

async function queryBasics(client: pg.Client): Promise<Row> {
  const { rows } = await client.query<Row>(QUERY)
  const [row] = rows
  if (!row) throw new Error('a query without conditions gave no row')
  return row
}

async function analyzedIn(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ tuples: number }>(
    `SELECT sum(coalesce(pg_stat_get_tuples_inserted(c), 0) + coalesce(pg_stat_get_tuples_updated(c), 0)
              + coalesce(pg_stat_get_tuples_deleted(c), 0))::float8 AS tuples
     FROM unnest($1::oid[]) AS c`,
    [STATISTICS_CATALOGS],
  )
  return rows[0]?.tuples ?? 0
}
