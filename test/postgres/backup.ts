/**
 * Backups for these tests: a production cluster, a base backup of it, and an archive, laid out as a mount on plain
 * directories.
 */
import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Logger, pino } from 'pino'
import { stopInstance } from '../../agents/target/postgres/process/stop.ts'
import type { InstanceSpec } from '../../agents/target/postgres/specification.ts'
import { prepareSessionDirectories } from '../../agents/target/preflight/session-directories.ts'
import { freePort } from '../../coordinator/cli/free-port.ts'
import type { RecoverTo } from '../../messages/values.ts'
import {
  type Account,
  type Cluster,
  makeCluster,
  POSTGRES_BIN,
  POSTGRES_MAJOR,
  postgresAccount,
  runAs,
} from '../support/postgres-cluster.ts'
import { scratchDirectory } from '../support/scratch.ts'

const run = promisify(execFile)

export const logger: Logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

export interface Backup {
  readonly directory: string
  readonly account: Account
  /** PGDATA as backed up. */
  readonly data: string
  readonly archive: string
  remove(): Promise<void>
}

export interface BackupOptions {
  readonly configuration?: 'inside' | 'outside'
  /** The superuser of production. Default: the account's name. */
  readonly superuser?: string
  /** postgresql.conf of production. */
  readonly settings?: Readonly<Record<string, string>>
  /** SQL that runs before the backup. */
  readonly before?: readonly string[]
  /** What happens in production after the backup, before the rest of the archive. */
  readonly after?: (cluster: Cluster) => Promise<void>
  /** Like `settings`, in force at the time of the backup only, so that they are in pg_control. */
  readonly running?: Readonly<Record<string, string>>
}

/** Table `t` has 1000 rows in the backup and 1500 at the end of the archive. */
export async function makeBackup(options: BackupOptions = {}): Promise<Backup> {
  const directory = await scratchDirectory('howdah-postgres-test-')
  const account = await postgresAccount()
  const [production, data, archive] = ['production', 'backup', 'archive'].map((name) =>
    join(directory, name),
  ) as [string, string, string]
  try {
    await chmod(directory, 0o711)
    for (const made of [production, archive]) {
      await mkdir(made)
      await chown(made, account.uid, account.gid)
    }
    await chown(directory, account.uid, account.gid)
    const cluster = await makeCluster({
      directory: production,
      account,
      configuration: options.configuration ?? 'inside',
      ...(options.superuser !== undefined && { superuser: options.superuser }),
      settings: {
        archive_mode: 'on',
        archive_command: `cp %p ${archive}/%f`,
        ...options.settings,
      },
    })
    await cluster.start()
    try {
      await cluster.sql('CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 1000) i')
      for (const sql of options.before ?? []) await cluster.sql(sql)
      await runAs(account, join(POSTGRES_BIN, 'pg_basebackup'), [
        ...['-h', cluster.socketDirectory, '-p', String(cluster.port), '-U', cluster.user],
        ...['-D', data, '-X', 'none', '-c', 'fast', '--no-sync'],
      ])
      await options.after?.(cluster)
      await cluster.sql('INSERT INTO t SELECT i FROM generate_series(1001, 1500) i; SELECT pg_switch_wal()')
    } finally {
      await cluster.stop()
    }
    return {
      directory,
      account,
      data,
      archive,
      remove: () => rm(directory, { recursive: true, force: true }),
    }
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

export interface Published {
  readonly spec: InstanceSpec
  /** Runs SQL on the published instance. */
  sql(text: string, user?: string): Promise<string>
  /** Stops the instance and removes its directories. */
  remove(): Promise<void>
}

let sessions = 0

/** Directories of a session with the backup copied into what would be its mount; nothing is started. */
export async function mountCopy(
  backup: Backup,
  recoverTo: RecoverTo = { type: 'latest' },
  changes: Partial<InstanceSpec> = {},
): Promise<Published> {
  const session = `test-${process.pid}-${++sessions}`
  const { account } = backup
  const mountPoint = join(backup.directory, `mount-${session}`)
  const cachePath = join(backup.directory, `cache-${session}`)
  const spec: InstanceSpec = {
    session,
    mountPoint,
    cachePath,
    binaries: POSTGRES_BIN,
    version: POSTGRES_MAJOR,
    user: account,
    port: await freePort(),
    recoverTo,
    ...changes,
  }
  await prepareSessionDirectories({ mountPoint, cachePath, uid: account.uid, gid: account.gid })
  await chown(mountPoint, account.uid, account.gid)
  await run('cp', ['-a', backup.data, join(mountPoint, 'data')])
  await run('cp', ['-a', backup.archive, join(mountPoint, 'wal')])
  await rm(join(mountPoint, 'data/pg_wal'), { recursive: true })
  await symlink(join(cachePath, 'pg_wal'), join(mountPoint, 'data/pg_wal'))
  return {
    spec,
    sql: async (text, user = account.name) =>
      (
        await runAs(
          account,
          join(POSTGRES_BIN, 'psql'),
          [
            ...['-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres'],
            ...['-h', join(cachePath, 'run'), '-p', String(spec.port), '-U', user, '-f', '-'],
          ],
          { input: text },
        )
      ).trim(),
    async remove() {
      await stopInstance(spec, { logger, mode: 'immediate', graceMs: 5_000 })
      await rm(mountPoint, { recursive: true, force: true })
      await rm(cachePath, { recursive: true, force: true })
    },
  }
}
