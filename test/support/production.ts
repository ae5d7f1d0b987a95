/**
 * A small production for tests, the demo and benches: PostgreSQL 15 with pgbench tables, a tablespace, WAL archiving
 * and pgBackRest repositories of any kind.
 *
 * Owns everything below its directory; `remove` leaves nothing of it, neither process nor file.
 */
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Cluster, makeCluster, POSTGRES_BIN, postgresAccount, runAs } from './postgres-cluster.ts'

export type Compression = 'none' | 'gz' | 'zst' | 'lz4' | 'bz2'

export interface RepositoryKind {
  readonly compress: Compression
  readonly bundle: boolean
  /** Encrypts it by AES-256-CBC. Default: it is not encrypted. */
  readonly passphrase?: string
}

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

export type BackupType = 'full' | 'diff' | 'incr'

/** One pgBackRest repository of the production. */
export interface ProductionRepository {
  readonly path: string
  readonly stanza: string
  readonly configFile: string
  /** Takes a backup and gives its label. Archiving goes to this repository from now on. */
  backup(type: BackupType): Promise<string>
  /** Runs `pgbackrest <args>` with this repository's configuration and gives its stdout. */
  pgbackrest(...args: string[]): Promise<string>
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
  /** Adds rows to `notes`, so that something happened after a backup. */
  writeNotes(count: number, note: string): Promise<void>
  /** Closes the WAL segment and waits until the archive has it; gives its name. */
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

/**
 * Makes the production, starts it, and fills it: pgbench tables, `notes` with 1000 rows, and `archived_orders` in
 * the tablespace. No backup is taken yet.
 */
export async function makeProduction(options: ProductionOptions = {}): Promise<Production> {
  const account = await postgresAccount()
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'howdah-production-')))
  const ownDirectory = async (path: string) => {
    await mkdir(path, { recursive: true })
    await chown(path, account.uid, account.gid)
    await chmod(path, 0o755)
  }
  await ownDirectory(directory)
  const scale = options.scale ?? 1
  const stanza = options.stanza ?? 'shop'
  let cluster: Cluster | undefined
  try {
    cluster = await makeCluster({
      directory,
      account,
      configuration: options.configuration ?? 'inside',
      settings: {
        wal_level: 'replica',
        archive_mode: 'on',
        // Loading is not worth archiving: recovery needs WAL from the first backup on.
        archive_command: '/bin/true',
        max_wal_size: scale > 10 ? '16GB' : '1GB',
        checkpoint_timeout: '1h',
        shared_buffers: scale > 10 ? '512MB' : '64MB',
        ...options.settings,
      },
    })
    await cluster.start()
    await fill(cluster)
  } catch (error) {
    await cluster?.stop('immediate').catch(() => undefined)
    await rm(directory, { recursive: true, force: true })
    throw error
  }
  const { dataDirectory, socketDirectory, port, user, sql } = cluster
  const { stop, start } = cluster

  async function fill(made: Cluster): Promise<void> {
    await made.sql(`create database ${DATABASE}`)
    await runAs(account, join(POSTGRES_BIN, 'pgbench'), [
      ...['-i', '-q', '-I', scale > 10 ? 'dtGp' : 'dtgp', '-s', String(scale)],
      ...['-h', made.socketDirectory, '-p', String(made.port), '-U', account.name, DATABASE],
    ])
    await made.sql(
      `create table notes (id bigserial primary key, note text not null);
       insert into notes (note) select 'before ' || i from generate_series(1, 1000) i;
       create unlogged table scratch as select generate_series(1, 1000) as n;`,
      DATABASE,
    )
    if (options.tablespace === false) return
    const location = join(directory, 'tablespace')
    await ownDirectory(location)
    await made.sql(`create tablespace ${TABLESPACE} location '${location}'`)
    await made.sql(
      `create table archived_orders (id int primary key using index tablespace ${TABLESPACE}, note text) tablespace ${TABLESPACE};
       insert into archived_orders select i, md5(i::text) from generate_series(1, 5000) i;`,
      DATABASE,
    )
  }

  async function archiveTo(configFile: string): Promise<void> {
    const command = `pgbackrest --config=${configFile} --stanza=${stanza} archive-push "%p"`
    if ((await sql('show archive_command')) === command) return
    await sql(`alter system set archive_command = '${command}'`)
    await sql('select pg_reload_conf()')
  }

  async function addRepository(name: string, kind: RepositoryKind): Promise<ProductionRepository> {
    const home = join(directory, name)
    const path = join(home, 'repository')
    for (const made of [home, path, join(home, 'lock'), join(home, 'spool')]) await ownDirectory(made)
    const configFile = join(home, 'pgbackrest.conf')
    await writeFile(
      configFile,
      `[global]
repo1-path=${path}
repo1-bundle=${kind.bundle ? 'y' : 'n'}
repo1-retention-full=9
compress-type=${kind.compress}
${kind.passphrase === undefined ? '' : `repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=${kind.passphrase}\n`}lock-path=${join(home, 'lock')}
spool-path=${join(home, 'spool')}
log-level-file=off
log-level-console=warn
start-fast=y
archive-timeout=60
process-max=${options.processMax ?? 2}

[${stanza}]
pg1-path=${dataDirectory}
pg1-port=${port}
pg1-socket-path=${socketDirectory}
pg1-user=${account.name}
`,
    )
    const pgbackrest = (...args: string[]) =>
      runAs(account, 'pgbackrest', [`--config=${configFile}`, `--stanza=${stanza}`, ...args])
    await pgbackrest('stanza-create')
    return {
      path,
      stanza,
      configFile,
      pgbackrest,
      async backup(type) {
        await archiveTo(configFile)
        await pgbackrest('backup', `--type=${type}`)
        const info = JSON.parse(await pgbackrest('info', '--output=json')) as {
          backup: { label: string }[]
        }[]
        const label = info[0]?.backup.at(-1)?.label
        if (label === undefined) throw new Error('pgbackrest info lists no backup')
        return label
      },
    }
  }

  async function switchWal(): Promise<string> {
    // Something must have happened in the segment, or the switch does nothing.
    const segment = await sql(
      `select pg_create_restore_point('switch') is null \\g /dev/null
       select pg_walfile_name(pg_switch_wal())`,
    )
    const deadline = Date.now() + 60_000
    while ((await sql(`select last_archived_wal >= '${segment}' from pg_stat_archiver`)) !== 't') {
      if (Date.now() > deadline) throw new Error(`${segment} was not archived within 60 s`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return segment
  }

  async function remove(): Promise<void> {
    await stop('immediate')
    await rm(directory, { recursive: true, force: true })
  }

  try {
    const first = await addRepository('pgbackrest', {
      compress: options.compress ?? 'gz',
      bundle: options.bundle ?? false,
      ...(options.passphrase !== undefined && { passphrase: options.passphrase }),
    })
    return {
      ...first,
      directory,
      dataDirectory,
      socketDirectory,
      port,
      user,
      database: DATABASE,
      sql: (text, database = DATABASE) => sql(text, database),
      async writeNotes(count, note) {
        await sql(
          `insert into notes (note) select '${note} ' || i from generate_series(1, ${count}) i`,
          DATABASE,
        )
      },
      switchWal,
      addRepository,
      async basebackup(target, extraArgs = []) {
        await mkdir(dirname(target), { recursive: true })
        await ownDirectory(target)
        const mapping =
          options.tablespace === false || extraArgs.includes('-Ft')
            ? []
            : ['-T', `${join(directory, 'tablespace')}=${target}.tblspc`]
        if (mapping.length > 0) await ownDirectory(`${target}.tblspc`)
        await runAs(account, join(POSTGRES_BIN, 'pg_basebackup'), [
          ...['-D', target, '-h', socketDirectory, '-p', String(port), '-U', account.name],
          ...['-c', 'fast', '--no-sync', ...mapping, ...extraArgs],
        ])
      },
      stop,
      start,
      remove,
    }
  } catch (error) {
    await remove()
    throw error
  }
}
