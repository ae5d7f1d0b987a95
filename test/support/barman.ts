/**
 * Owns a Barman home beside a production, made by Debian's Barman: a server `files` whose backups rsync copies, and a server
 * `streamed` whose backups pg_basebackup takes, plain or as compressed tar archives.
 */
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Account, POSTGRES_BIN, postgresAccount, runAs } from './postgres-cluster.ts'
import type { Production } from './production.ts'
import { SEGMENT_AFTER_BACKUP_IS_AWAITED } from './version-differences.ts'

const run = promisify(execFile)
/** Longer than a backup takes. */
const SWITCH_MS = 2_000

export type BarmanServer = 'files' | 'streamed'
export type BarmanCompression = 'none' | 'gzip' | 'lz4' | 'zstd'

export interface Barman {
  /** The repository. */
  readonly home: string
  /**
   * Takes a backup, waits for its WAL, and returns its id. `compression` and `parent`, on which an incremental backup of
   * PostgreSQL 17 builds: of `streamed` only.
   */
  backup(server: BarmanServer, compression?: BarmanCompression, parent?: string): Promise<string>
  /** Archives the WAL that production delivered. */
  archiveWal(): Promise<void>
  /** Restores by Barman itself: `data` as it was before Barman edited its configuration, the tablespace in `tablespace`. */
  recover(server: BarmanServer, id: string, data: string, tablespace: string): Promise<void>
  /** A WAL file as `barman get-wal` returns it. */
  getWal(server: BarmanServer, name: string): Promise<Buffer>
}

/** From now on the production archives into the home, which is removed together with it. */
export async function makeBarman(production: Production): Promise<Barman> {
  const account = await postgresAccount()
  const root = join(production.directory, 'barman')
  const home = join(root, 'home')
  const servers: readonly BarmanServer[] = ['files', 'streamed']
  const connection = `host=${production.socketDirectory} port=${production.port} user=${production.user}`
  for (const path of [home, join(root, 'run'), join(root, 'fetched')]) await mkdir(path, { recursive: true })

  async function configure(compression: BarmanCompression): Promise<string> {
    const path = join(root, `${compression}.conf`)
    const text = `[barman]
barman_user = ${account.name}
barman_home = ${home}
log_file = ${join(root, 'barman.log')}
barman_lock_directory = ${join(root, 'run')}
configuration_files_directory = ${join(root, 'none')}
path_prefix = ${POSTGRES_BIN}
backup_options = concurrent_backup, external_configuration
immediate_checkpoint = true
archiver = on

[files]
description = copied by rsync
conninfo = ${connection} dbname=postgres
backup_method = local-rsync
reuse_backup = link
compression = gzip

[streamed]
description = taken by pg_basebackup
conninfo = ${connection} dbname=postgres
streaming_conninfo = ${connection}
backup_method = postgres
compression = bzip2
${compression === 'none' ? '' : `backup_compression = ${compression}`}
`
    await writeFile(path, text)
    return path
  }
  const plain = await configure('none')
  await chownTree(root, account)

  const barman = (configuration: string, ...args: string[]) =>
    runAs(account, 'barman', ['-q', '-c', configuration, ...args])

  // The first command makes the servers' directories.
  await barman(plain, 'check', 'all').catch(() => undefined)
  const copies = servers.map((server) => `cp %p ${join(home, server, 'incoming')}/%f`)
  await production.sql(`alter system set archive_command = '${copies.join(' && ')}'`)
  await production.sql('select pg_reload_conf()')
  await production.switchWal()

  async function archiveWal(): Promise<void> {
    for (const server of servers) await barman(plain, 'archive-wal', server)
  }
  await archiveWal()

  const incrementals = new Set<string>()

  async function switchWalUntil(end: Promise<unknown>): Promise<void> {
    let isOver = false
    const over = end.finally(() => {
      isOver = true
    })
    while (!isOver) {
      await Promise.race([over, sleep(SWITCH_MS)])
      if (!isOver) await production.switchWal()
    }
  }

  return {
    home,
    archiveWal,
    async backup(server, compression = 'none', parent) {
      const configuration = compression === 'none' ? plain : await configure(compression)
      const incremental = parent === undefined ? [] : ['--incremental', parent]
      const backup = barman(configuration, 'backup', ...incremental, '--wait', server)
      if (SEGMENT_AFTER_BACKUP_IS_AWAITED) await Promise.all([backup, switchWalUntil(backup)])
      await backup
      const newest = (await readdir(join(home, server, 'base'))).sort().at(-1)
      if (newest === undefined) throw new Error(`Barman made no backup of ${server}`)
      if (parent !== undefined) incrementals.add(newest)
      return newest
    },
    async recover(server, id, data, tablespace) {
      // PostgreSQL's own mode: for archives Barman keeps that of existing directories.
      for (const made of [data, tablespace]) {
        await mkdir(dirname(made), { recursive: true })
        await mkdir(made, { mode: 0o700 })
      }
      await chownTree(data, account)
      await chownTree(tablespace, account)
      await barman(
        plain,
        ...['recover', '--tablespace', `archive:${tablespace}`],
        ...['--recovery-staging-path', join(root, 'fetched'), '--get-wal'],
        // Where it combines them.
        ...(incrementals.has(id) ? ['--local-staging-path', join(root, 'fetched')] : []),
        ...[server, id, data],
      )
      for (const name of ['postgresql.conf', 'postgresql.auto.conf']) {
        await rename(join(data, `${name}.origin`), join(data, name)).catch(() => undefined)
      }
    },
    async getWal(server, name) {
      const directory = join(root, 'fetched')
      await barman(plain, 'get-wal', '--output-directory', directory, server, name)
      const contents = await readFile(join(directory, name))
      await rm(join(directory, name))
      return contents
    },
  }
}

const chownTree = (path: string, { uid, gid }: Account) => run('chown', ['-R', `${uid}:${gid}`, path])
