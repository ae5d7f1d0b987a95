/** Reads from the catalogs of one database what connects to other servers or acts on its own. Changes nothing. */
import type pg from 'pg'

export interface ForeignServer {
  readonly name: string
  readonly wrapper: string
  /** From its options. */
  readonly host: string | null
}

export interface JobTable {
  readonly scheduler: string
  readonly jobs: number
}

export interface DatabaseSurvey {
  readonly database: string
  /** Extensions by which a query can reach other machines. */
  readonly extensions: readonly string[]
  readonly servers: readonly ForeignServer[]
  /** Number of user mappings that have a password, or another secret, in their options. */
  readonly passwords: number
  readonly jobs: readonly JobTable[]
  /** Enabled login event triggers; since PostgreSQL 17. */
  readonly loginTriggers: readonly string[]
  /** Hosts of the other nodes in Citus' metadata. */
  readonly workers: readonly string[]
}

/** Extensions that can reach other machines, by their names in pg_extension. */
const REACHING = [
  ...['dblink', 'postgres_fdw', 'mysql_fdw', 'oracle_fdw', 'tds_fdw', 'mongo_fdw', 'redis_fdw', 'jdbc_fdw'],
  ...[
    'odbc_fdw',
    'sqlite_fdw',
    'multicorn',
    'wrappers',
    'hdfs_fdw',
    'kafka_fdw',
    'clickhouse_fdw',
    'db2_fdw',
  ],
  ...['http', 'pg_net', 'amqp', 'plsh', 'pg_background', 'aws_s3', 'aws_lambda', 'azure_storage', 'plproxy'],
  ...['pglogical', 'bdr', 'pgactive', 'spock', 'citus', 'orafce_mail', 'pgsmtp'],
]

/** Tables in which schedulers keep their jobs, with the condition that selects those of users. */
const JOB_TABLES: readonly {
  readonly scheduler: string
  readonly schema: string
  readonly table: string
  readonly of?: string
}[] = [
  { scheduler: 'pg_cron', schema: 'cron', table: 'job', of: 'active' },
  { scheduler: 'pgAgent', schema: 'pgagent', table: 'pga_job', of: 'jobenabled' },
  { scheduler: 'pg_timetable', schema: 'timetable', table: 'chain' },
  { scheduler: 'pg_timetable', schema: 'timetable', table: 'chain_execution_config' },
  // Those below 1000 are TimescaleDB's own.
  { scheduler: 'TimescaleDB', schema: '_timescaledb_config', table: 'bgw_job', of: 'id >= 1000' },
  { scheduler: 'TimescaleDB', schema: '_timescaledb_catalog', table: 'bgw_job', of: 'id >= 1000' },
  { scheduler: 'pg_dbms_job', schema: 'dbms_job', table: 'all_scheduled_jobs' },
]

/** Jobs are counted up to this number. */
const MOST_JOBS = 1000
/** Options in which foreign data wrappers have the host of a server. */
const HOST_OPTIONS = ['host', 'hostaddr', 'server', 'servername', 'dbserver', 'address', 'uri', 'url']

interface Row {
  readonly extensions: string[]
  readonly servers: { readonly name: string; readonly wrapper: string; readonly options: string[] | null }[]
  readonly passwords: number
  readonly triggers: string[]
  readonly tables: string[]
}

/** Only catalogs that all versions have. Names in other encodings than UTF-8 may be garbled. */
const QUERY = `
  SELECT ARRAY(SELECT extname::text FROM pg_catalog.pg_extension WHERE extname = ANY ($1) ORDER BY 1) AS extensions,
         (SELECT coalesce(json_agg(json_build_object('name', srvname, 'wrapper', fdwname, 'options', srvoptions) ORDER BY srvname), '[]')
            FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw) AS servers,
         (SELECT count(*)::int FROM pg_catalog.pg_user_mapping m
           WHERE EXISTS (SELECT FROM unnest(m.umoptions) AS o WHERE o ~* '^[a-z_]*(password|passwd|pwd|secret|token)[a-z_]*=')) AS passwords,
         ARRAY(SELECT evtname::text FROM pg_catalog.pg_event_trigger
                WHERE evtevent = 'login' AND evtenabled IN ('O', 'A') ORDER BY 1) AS triggers,
         ARRAY(SELECT nspname || '.' || relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE nspname || '.' || relname = ANY ($2) AND relkind IN ('r', 'p')) AS tables`

/** @throws the error of the query */
export async function surveyDatabase(client: pg.Client, database: string): Promise<DatabaseSurvey> {
  const jobTables = JOB_TABLES.map(({ schema, table }) => `${schema}.${table}`)
  const [row] = (await client.query<Row>(QUERY, [REACHING, [...jobTables, 'pg_catalog.pg_dist_node']])).rows
  if (row === undefined) throw new Error('a query without conditions gave no row')
  const jobs: JobTable[] = []
  for (const { scheduler, schema, table, of } of JOB_TABLES) {
    if (!row.tables.includes(`${schema}.${table}`)) continue
    const count = await countJobs(client, `"${schema}"."${table}"`, of)
    if (count > 0) jobs.push({ scheduler, jobs: count })
  }
  return {
    database,
    extensions: row.extensions,
    servers: row.servers.map(({ name, wrapper, options }) => ({
      name,
      wrapper,
      host: hostIn(options ?? []),
    })),
    passwords: row.passwords,
    jobs,
    loginTriggers: row.triggers,
    workers: row.tables.includes('pg_catalog.pg_dist_node') ? await workersOf(client) : [],
  }
}

/** A table of that name with other columns belongs to something else, and counts as empty. */
async function countJobs(client: pg.Client, table: string, of = 'true'): Promise<number> {
  const query = `SELECT count(*)::int AS jobs FROM (SELECT FROM ${table} WHERE ${of} LIMIT ${MOST_JOBS}) AS counted`
  const found = await unlessUndefined(client.query<{ jobs: number }>(query))
  return found?.rows[0]?.jobs ?? 0
}

async function workersOf(client: pg.Client): Promise<string[]> {
  const query =
    "SELECT DISTINCT nodename::text AS host FROM pg_catalog.pg_dist_node WHERE nodename NOT IN ('localhost', '127.0.0.1') ORDER BY 1"
  const found = await unlessUndefined(client.query<{ host: string }>(query))
  return (found?.rows ?? []).map(({ host }) => host)
}

/** SQLSTATE 42703 undefined column, 42883 undefined operator, 42804 type mismatch. */
const OTHER_SHAPE: ReadonlySet<string> = new Set(['42703', '42883', '42804'])

async function unlessUndefined<T>(query: Promise<T>): Promise<T | undefined> {
  return query.catch((error: { code?: string }) => {
    if (OTHER_SHAPE.has(error.code ?? '')) return undefined
    throw error
  })
}

/** Options are `name=value`. A URL may have a password in it. */
function hostIn(options: readonly string[]): string | null {
  for (const wanted of HOST_OPTIONS) {
    const found = options.find((option) => option.startsWith(`${wanted}=`))
    if (found !== undefined) return withoutSecrets(found.slice(wanted.length + 1))
  }
  return null
}

function withoutSecrets(host: string): string {
  const match = /^[a-z][a-z0-9+.:-]*\/\/(?:[^/?#]*@)?([^/?#]*)/i.exec(host)
  return match?.[1] ?? host
}
