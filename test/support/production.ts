/**
 * Owns a small production for tests, the demo and benches: PostgreSQL with pgbench tables, a tablespace, WAL
 * archiving and pgBackRest repositories of any kind. Everything is below one directory; `remove` leaves neither process
 * nor file of it.
 */
import { chmod, chown, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { makeRepository, type ProductionRepository, type RepositoryKind } from './pgbackrest.ts'
import { poll } from './poll.ts'
import {
  type Account,
  type Cluster,
  type ClusterOptions,
  makeCluster,
  POSTGRES_BIN,
  postgresAccount,
  runAs,
} from './postgres-cluster.ts'

export interface ProductionOptions extends Partial<RepositoryKind> {
  /** Everything is made in here; it need not exist. Default: a new directory below the system's temporary one. */
  readonly directory?: string
  /** pgbench scale, about 15 MB each. Default 1. */
  readonly scale?: number
  /** A table `archived_orders` in a tablespace of its own. Default true. */
  readonly tablespace?: boolean
  /** Where postgresql.conf and pg_hba.conf are; `outside` is Debian's way. Default `inside`. */
  readonly configuration?: 'inside' | 'outside'
  /** More of postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>
  readonly stanza?: string
  /** Processes that pgBackRest compresses with. Default 2. */
  readonly processMax?: number
}

export interface Production extends ProductionRepository {
  readonly directory: string
  readonly dataDirectory: string
  readonly socketDirectory: string
  readonly port: number
  /** The operating system and database superuser. */
  readonly user: string
  /** The database that holds the pgbench tables, `notes` and `archived_orders`. */
  readonly database: string
  /** Runs SQL by psql in `database` or another; rows are lines, columns separated by `|`. */
  sql(text: string, database?: string): Promise<string>
  /** Adds rows to `notes`, so that there is WAL after a backup. */
  writeNotes(count: number, note: string): Promise<void>
  /** Closes the WAL segment and waits until the archive has it; returns its name. */
  switchWal(): Promise<string>
  /** Another repository of the same production. */
  addRepository(name: string, kind: RepositoryKind): Promise<ProductionRepository>
  /** Runs pg_basebackup into a directory, streaming WAL; a tablespace goes to `<directory>.tblspc`. */
  basebackup(directory: string, extraArgs?: readonly string[]): Promise<void>
  stop(mode?: 'fast' | 'immediate'): Promise<void>
  start(): Promise<void>
  /** Stops and deletes everything. Safe to repeat. */
  remove(): Promise<void>
}

const DATABASE = 'shop'
const TABLESPACE = 'archive'
const ARCHIVE_DEADLINE_MS = 60_000

/**
 * Makes the production, starts it, and fills it: pgbench tables, `notes` with 1000 rows, and `archived_orders` in
 * the tablespace. No backup is taken yet.
 */
export async function makeProduction(options: ProductionOptions = {}): Promise<Production> {
  const account = await postgresAccount()
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'howdah-production-')))
  const makeDirectory = async (path: string): Promise<void> => {
    await mkdir(path, { recursive: true })
    await chown(path, account.uid, account.gid)
    await chmod(path, 0o755)
  }
  await makeDirectory(directory)
  const tablespace = options.tablespace === false ? undefined : join(directory, 'tablespace')
  if (tablespace !== undefined) await makeDirectory(tablespace)
  const cluster = await makeCluster(clusterOptions(options, directory, account)).catch(async (error) => {
    await rm(directory, { recursive: true, force: true })
    throw error
  })

  async function remove(): Promise<void> {
    await cluster.stop('immediate')
    await rm(directory, { recursive: true, force: true })
  }

  const addRepository: Production['addRepository'] = (name, kind) =>
    makeRepository({
      cluster,
      account,
      stanza: options.stanza ?? 'shop',
      processMax: options.processMax ?? 2,
      home: join(directory, name),
      kind,
      makeDirectory,
    })

  try {
    await cluster.start()
    await fill(cluster, account, options.scale ?? 1, tablespace)
    const first = await addRepository('pgbackrest', {
      compress: options.compress ?? 'gz',
      bundle: options.bundle ?? false,
      ...(options.passphrase !== undefined && { passphrase: options.passphrase }),
    })
    const { dataDirectory, socketDirectory, port, user, start, stop } = cluster
    return {
      ...first,
      directory,
      dataDirectory,
      socketDirectory,
      port,
      user,
      database: DATABASE,
      start,
      stop,
      sql: (text, database = DATABASE) => cluster.sql(text, database),
      async writeNotes(count, note) {
        await cluster.sql(
          `insert into notes (note) select '${note} ' || i from generate_series(1, ${count}) i`,
          DATABASE,
        )
      },
      switchWal: () => switchWal(cluster),
      addRepository,
      async basebackup(target, extraArgs = []) {
        await mkdir(dirname(target), { recursive: true })
        await makeDirectory(target)
        const mapped = tablespace !== undefined && !extraArgs.includes('-Ft')
        if (mapped) await makeDirectory(`${target}.tblspc`)
        await runAs(account, join(POSTGRES_BIN, 'pg_basebackup'), [
          ...['-D', target, '-h', socketDirectory, '-p', String(port), '-U', account.name],
          ...['-c', 'fast', '--no-sync'],
          ...(mapped ? ['-T', `${tablespace}=${target}.tblspc`] : []),
          ...extraArgs,
        ])
      },
      remove,
    }
  } catch (error) {
    await remove().catch(() => undefined)
    throw error
  }
}

function clusterOptions(options: ProductionOptions, directory: string, account: Account): ClusterOptions {
  const isLarge = (options.scale ?? 1) > 10
  return {
    directory,
    account,
    configuration: options.configuration ?? 'inside',
    settings: {
      wal_level: 'replica',
      archive_mode: 'on',
      // Loading is not worth archiving: recovery needs WAL from the first backup on.
      archive_command: '/bin/true',
      max_wal_size: isLarge ? '16GB' : '1GB',
      checkpoint_timeout: '1h',
      shared_buffers: isLarge ? '512MB' : '64MB',
      ...options.settings,
    },
  }
}

/** `tablespace`: where it is; undefined: none is made. */
async function fill(
  { sql, socketDirectory, port }: Cluster,
  account: Account,
  scale: number,
  tablespace: string | undefined,
): Promise<void> {
  await sql(`create database ${DATABASE}`)
  await runAs(account, join(POSTGRES_BIN, 'pgbench'), [
    ...['-i', '-q', '-I', scale > 10 ? 'dtGp' : 'dtgp', '-s', String(scale)],
    ...['-h', socketDirectory, '-p', String(port), '-U', account.name, DATABASE],
  ])
  await sql(
    `create table notes (id bigserial primary key, note text not null);
     insert into notes (note) select 'before ' || i from generate_series(1, 1000) i;
     create unlogged table scratch as select generate_series(1, 1000) as n;`,
    DATABASE,
  )
  if (tablespace === undefined) return
  await sql(`create tablespace ${TABLESPACE} location '${tablespace}'`)
  await sql(
    `create table archived_orders (id int primary key using index tablespace ${TABLESPACE}, note text) tablespace ${TABLESPACE};
     insert into archived_orders select i, md5(i::text) from generate_series(1, 5000) i;`,
    DATABASE,
  )
}

/** Closes the WAL segment and waits until the archive has it; returns its name. */
async function switchWal({ sql }: Cluster): Promise<string> {
  // PostgreSQL does not switch a segment to which nothing was written.
  const segment = await sql(
    `select pg_create_restore_point('switch') is null \\g /dev/null
     select pg_walfile_name(pg_switch_wal())`,
  )
  return poll(
    async () =>
      (await sql(`select last_archived_wal >= '${segment}' from pg_stat_archiver`)) === 't'
        ? segment
        : undefined,
    { deadlineMs: ARCHIVE_DEADLINE_MS, failure: () => `${segment} was not archived within 60 s` },
  )
}
