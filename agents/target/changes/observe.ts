/** Queries the transaction ids and statistics of a published instance, from which its changes are detected. */
import type pg from 'pg'
import { type InstanceAddress, withAnyDatabase, withClient } from '../postgres/connections/instance-client.ts'
import { rawName, unusableReason } from '../postgres/connections/instance-databases.ts'
import type { Observation } from './detection.ts'
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

/** Databases that accept no connections, or are invalid, are left out: nothing can be written there. */
const DATABASES_QUERY = `
  SELECT ${rawName('d')} AS name, (s.tup_inserted + s.tup_updated + s.tup_deleted)::float8 AS written
    FROM pg_catalog.pg_stat_database s JOIN pg_catalog.pg_database d ON d.oid = s.datid
   WHERE d.datallowconn AND d.datconnlimit <> -2`

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

/** Undefined: the instance is in recovery, so nothing can have been changed. */
export async function observe(address: InstanceAddress): Promise<Observation | undefined> {
  const { row, quiet, written, entered } = await withAnyDatabase(address, async (client, entered) => {
    const row = await queryBasics(client)
    const written = row.recovering ? [] : (await client.query<DatabaseRow>(DATABASES_QUERY)).rows
    return { row, quiet: await isQuiet(client, []), written, entered }
  })
  if (row.recovering) return undefined
  const databases = new Map<string, Counters>()
  for (const { name, written: tuples } of written) {
    const database = name.toString()
    const statistics = tuples > 0 ? await analyzed(entered, database) : 0
    databases.set(database, { written: tuples, statistics })
  }
  return { xid: BigInt(row.xid), epoch: row.epoch, databases, shared: row.shared, quiet }
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
