/**
 * Owns a small production of any PostgreSQL major, with what only some clusters have, and one
 * backup of it: by pgBackRest, or over a replication connection where Debian 12's pgBackRest does not know the major.
 */
import { appendFile, chmod, chown, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { RepositoryConfig } from '../../config/formats.ts'
import { takeBaseBackup } from './base-backup.ts'
import { makeRepository, type RepositoryKind } from './pgbackrest.ts'
import { poll } from './poll.ts'
import { type Account, type Cluster, makeCluster, postgresAccount } from './postgres-cluster.ts'
import { everyMajor } from './postgres-majors.ts'
import { scratchDirectory } from './scratch.ts'

export interface MajorKind {
  /** One of `everyMajor`. */
  readonly version: string
  readonly initdb: readonly string[]
  /** More of postgresql.conf. */
  readonly settings: Readonly<Record<string, string>>
  /** More than the tables that every production has, in the database `app`. */
  readonly contents: readonly string[]
  /** A table in a tablespace of its own. */
  readonly tablespace?: boolean
  /** Undefined: a base backup over a replication connection, in tar format. */
  readonly pgbackrest?: RepositoryKind
}

/** A state of production: what a publish that recovers to it must show. */
export interface Moment {
  readonly time: string
  readonly rows: string
}

export interface MajorProduction {
  readonly kind: MajorKind
  readonly directory: string
  /** Of the repository and the archive; `instance` of it is production. */
  readonly repository: RepositoryConfig
  readonly instance: string
  /** When the backup ended, some time later, and when production ended. */
  readonly moments: Readonly<Record<'immediate' | 'time' | 'latest', Moment>>
  remove(): Promise<void>
}

export const DATABASE = 'app'
const INSTANCE = 'main'
const ARCHIVE_DEADLINE_MS = 60_000

/**
 * All rows, as one line. Rows of the tables are compared as text, and found by their indexes, too: a cluster with
 * another locale provider may have other orders.
 */
export const ROWS = `SELECT string_agg(concat_ws(':', name, count, sum, found), ' ' ORDER BY name COLLATE "C") FROM (
    SELECT 'notes' AS name, count(*), sum(hashtext(n::text)::bigint), (SELECT count(*) FROM notes WHERE note >= 'l') AS found FROM notes n
    UNION ALL SELECT 'elsewhere', count(*), sum(hashtext(e::text)::bigint), (SELECT count(*) FROM elsewhere WHERE id > 10) FROM elsewhere e
    UNION ALL SELECT 'large', count(*), sum(hashtext(l::text)::bigint), max(id) FROM large l) AS tables`

/** Makes it, takes the backup, goes on writing, and stops it. Nothing of its processes is left. */
export async function makeMajorProduction(kind: MajorKind): Promise<MajorProduction> {
  const account = await postgresAccount()
  const major = everyMajor().find(({ version }) => version === kind.version)
  if (major === undefined) throw new Error(`there is no PostgreSQL ${kind.version}`)
  const directory = await scratchDirectory(`howdah-postgres-${kind.version}-`)
  const remove = () => rm(directory, { recursive: true, force: true })
  try {
    const makeDirectory = directoryMaker(account)
    await makeDirectory(directory)
    const archive = join(directory, 'archive')
    await makeDirectory(archive)
    const cluster = await makeCluster({
      ...{ directory, account, configuration: 'inside', binaries: major.binaries },
      initdb: kind.initdb,
      settings: {
        archive_mode: 'on',
        archive_command: `cp %p ${archive}/%f`,
        wal_level: 'logical',
        max_logical_replication_workers: '0',
        max_connections: '20',
        shared_buffers: '16MB',
        checkpoint_timeout: '1h',
        autovacuum: 'off',
        ...kind.settings,
      },
    })
    await cluster.start()
    // Production itself connects to nobody while connections are counted, but its configuration would.
    await appendFile(join(cluster.dataDirectory, 'postgresql.conf'), 'max_logical_replication_workers = 4\n')
    try {
      const tablespace = kind.tablespace ? join(directory, 'tablespace') : undefined
      if (tablespace !== undefined) await makeDirectory(tablespace)
      await fill(cluster, kind, tablespace)
      const home = join(directory, 'repository')
      const repository = await backUp({ cluster, account, kind, home, archive, makeDirectory })
      return {
        ...{ kind, directory, repository, instance: INSTANCE, remove },
        moments: await writeAfterBackup(cluster),
      }
    } finally {
      await cluster.stop('immediate')
    }
  } catch (error) {
    await remove()
    throw error
  }
}

function directoryMaker({ uid, gid }: Account) {
  return async (path: string): Promise<void> => {
    await mkdir(path, { recursive: true })
    await chown(path, uid, gid)
    await chmod(path, 0o755)
  }
}

async function fill(cluster: Cluster, kind: MajorKind, tablespace: string | undefined): Promise<void> {
  await cluster.sql(`CREATE DATABASE ${DATABASE}`)
  const where = tablespace === undefined ? '' : 'TABLESPACE elsewhere'
  if (tablespace !== undefined) await cluster.sql(`CREATE TABLESPACE elsewhere LOCATION '${tablespace}'`)
  await cluster.sql(
    `CREATE TABLE notes (id serial PRIMARY KEY, note text NOT NULL);
     CREATE INDEX ON notes (note);
     INSERT INTO notes (note) SELECT substr(md5(i::text), 1, 8) || ' ä ' || i FROM generate_series(1, 2000) i;
     CREATE TABLE elsewhere (id int, body text) ${where};
     INSERT INTO elsewhere SELECT i, md5(i::text) FROM generate_series(1, 1000) i;
     CREATE INDEX ON elsewhere (id);
     CREATE TABLE large AS SELECT i AS id, repeat(md5(i::text), 200) AS body FROM generate_series(1, 300) i`,
    DATABASE,
  )
  for (const statement of kind.contents) await cluster.sql(statement, DATABASE)
}

interface BackUp {
  readonly cluster: Cluster
  readonly account: Account
  readonly kind: MajorKind
  readonly home: string
  readonly archive: string
  readonly makeDirectory: (path: string) => Promise<void>
}

async function backUp({
  cluster,
  account,
  kind,
  home,
  archive,
  makeDirectory,
}: BackUp): Promise<RepositoryConfig> {
  const name = `pg${kind.version}`
  if (kind.pgbackrest === undefined) {
    const label = join(home, INSTANCE, 'full')
    for (const made of [home, join(home, INSTANCE), label]) await makeDirectory(made)
    await takeBaseBackup(cluster, label)
    return { name, format: 'basebackup', path: home, walPath: archive }
  }
  const repository = await makeRepository({
    ...{ cluster, account, home, makeDirectory },
    ...{ stanza: INSTANCE, processMax: 1, kind: kind.pgbackrest },
  })
  await repository.backup('full')
  return { name, format: 'pgbackrest', path: repository.path }
}

async function writeAfterBackup(cluster: Cluster): Promise<MajorProduction['moments']> {
  const moment = async (): Promise<Moment> => {
    const now = `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
    return { rows: await cluster.sql(ROWS, DATABASE), time: await cluster.sql(now, DATABASE) }
  }
  const immediate = await moment()
  await cluster.sql(
    `INSERT INTO notes (note) SELECT 'later ' || i FROM generate_series(1, 300) i;
     UPDATE elsewhere SET body = body || '!' WHERE id % 3 = 0`,
    DATABASE,
  )
  const time = await moment()
  await cluster.sql(
    `INSERT INTO notes (note) SELECT 'latest ' || i FROM generate_series(1, 300) i;
     UPDATE large SET body = reverse(body) WHERE id % 5 = 0`,
    DATABASE,
  )
  const latest = await moment()
  await switchWal(cluster)
  return { immediate, time, latest }
}

/** Closes the WAL segment, and waits until the archive has it. */
async function switchWal({ sql }: Cluster): Promise<void> {
  const segment = await sql('SELECT pg_walfile_name(pg_switch_wal())')
  const archived = `SELECT last_archived_wal >= '${segment}' FROM pg_stat_archiver`
  await poll(async () => ((await sql(archived)) === 't' ? true : undefined), {
    deadlineMs: ARCHIVE_DEADLINE_MS,
    failure: () => `${segment} was not archived within 60 s`,
  })
}
