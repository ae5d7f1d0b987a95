/** Backups that scenarios take: pg_basebackup, pgBackRest, Barman. Each puts them where the mount agent looks. */
import { chown, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Account, POSTGRES_BIN, runAs } from '../support/postgres-cluster.ts'
import type { Cluster } from './cluster.ts'

/** The instance that every scenario publishes. */
export const INSTANCE = 'main'

export interface PgBackRest {
  readonly configFile: string
  /** Runs `pgbackrest <args>` for the stanza and gives its stdout. */
  run(...args: string[]): Promise<string>
  /** Takes a backup and gives its label; `args` as `--no-online`. */
  backup(type?: 'full' | 'diff' | 'incr', ...args: string[]): Promise<string>
}

export interface Barman {
  readonly configFile: string
  /** Runs `barman <args>`. */
  run(...args: string[]): Promise<string>
  /** Takes a backup and waits for its WAL. */
  backup(): Promise<void>
  /** Archives what production handed over. */
  archiveWal(): Promise<void>
}

export async function ownDirectory(path: string, account: Account, mode = 0o755): Promise<string> {
  await mkdir(path, { recursive: true, mode })
  await chown(path, account.uid, account.gid)
  return path
}

/** Copies `cluster` into `<root>/main/<label>`, with the WAL that it takes to be consistent. */
export async function takeBasebackup(
  cluster: Cluster,
  account: Account,
  root: string,
  label: string,
  args: readonly string[],
): Promise<string> {
  const directory = join(await ownDirectory(join(root, INSTANCE), account), label)
  await runAs(account, join(POSTGRES_BIN, 'pg_basebackup'), [
    ...['-D', directory, '-h', cluster.socketDirectory, '-p', String(cluster.port), '-U', cluster.superuser],
    ...['-c', 'fast', '--no-sync', '-X', 'stream', ...args],
  ])
  return directory
}

export interface PgBackRestOptions {
  /** Default `stanza-create`. */
  readonly command?: 'stanza-create' | 'stanza-upgrade'
  /** The cluster is stopped, and never archives. */
  readonly offline?: boolean
  /** More lines of the stanza's section. */
  readonly more?: string
}

/** Makes the stanza, and has the cluster archive to it when it runs. */
export async function makePgBackRest(
  cluster: Cluster,
  account: Account,
  at: { readonly home: string; readonly repository: string },
  options: PgBackRestOptions,
): Promise<PgBackRest> {
  const home = await ownDirectory(at.home, account)
  await ownDirectory(at.repository, account)
  const configFile = join(home, `pgbackrest-${cluster.port}.conf`)
  await writeFile(
    configFile,
    `[global]
repo1-path=${at.repository}
repo1-retention-full=9
compress-type=none
lock-path=${join(home, 'lock')}
spool-path=${join(home, 'spool')}
log-level-file=off
log-level-console=warn
start-fast=y
archive-timeout=60
process-max=1

[${INSTANCE}]
pg1-path=${cluster.dataDirectory}
pg1-port=${cluster.port}
pg1-socket-path=${cluster.socketDirectory}
pg1-user=${cluster.superuser}
pg1-database=template1
${options.more ?? ''}`,
  )
  const run = (...args: string[]) =>
    runAs(account, 'pgbackrest', [`--config=${configFile}`, `--stanza=${INSTANCE}`, ...args])
  await run(options.command ?? 'stanza-create', ...(options.offline ? ['--no-online'] : []))
  if (!options.offline) {
    await cluster.sql(
      `ALTER SYSTEM SET archive_command = 'pgbackrest --config=${configFile} --stanza=${INSTANCE} archive-push "%p"'`,
      'template1',
    )
    await cluster.sql('SELECT pg_reload_conf()', 'template1')
  }
  return {
    configFile,
    run,
    async backup(type = 'full', ...args) {
      await run('backup', `--type=${type}`, ...args)
      const info = JSON.parse(await run('info', '--output=json')) as { backup: { label: string }[] }[]
      const label = info[0]?.backup.at(-1)?.label
      if (label === undefined) throw new Error('pgbackrest info lists no backup')
      return label
    },
  }
}

/** A server `main` whose backups pg_basebackup takes. `more` is appended to its section, as for other directories. */
export async function makeBarman(
  cluster: Cluster,
  account: Account,
  at: { readonly home: string; readonly repository: string },
  more = '',
): Promise<Barman> {
  const home = await ownDirectory(at.home, account)
  await ownDirectory(join(home, 'run'), account)
  await ownDirectory(at.repository, account)
  const configFile = join(home, 'barman.conf')
  const connection = `host=${cluster.socketDirectory} port=${cluster.port} user=${cluster.superuser}`
  await writeFile(
    configFile,
    `[barman]
barman_user = ${account.name}
barman_home = ${at.repository}
log_file = ${join(home, 'barman.log')}
barman_lock_directory = ${join(home, 'run')}
configuration_files_directory = ${join(home, 'none')}
path_prefix = ${POSTGRES_BIN}
immediate_checkpoint = true
archiver = on

[${INSTANCE}]
description = as reported
conninfo = ${connection} dbname=postgres
streaming_conninfo = ${connection}
backup_method = postgres
${more}`,
  )
  await chown(home, account.uid, account.gid)
  const run = (...args: string[]) => runAs(account, 'barman', ['-q', '-c', configFile, ...args])
  // The first command makes the server's directories; it complains of what is not there yet.
  await run('check', INSTANCE).catch(() => undefined)
  const incoming = (await runAs(account, 'barman', ['-c', configFile, 'show-server', INSTANCE]))
    .split('\n')
    .find((line) => line.includes('incoming_wals_directory'))
    ?.split(': ')[1]
    ?.trim()
  if (incoming === undefined) throw new Error('Barman names no incoming directory')
  await cluster.sql(`ALTER SYSTEM SET archive_command = 'cp %p ${incoming}/%f'`)
  await cluster.sql('SELECT pg_reload_conf()')
  await cluster.switchWal()
  const archiveWal = async () => {
    await run('archive-wal', INSTANCE)
  }
  await archiveWal()
  return {
    configFile,
    run,
    archiveWal,
    async backup() {
      await run('backup', '--wait', INSTANCE)
    },
  }
}
