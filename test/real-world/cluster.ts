/**
 * Throw-away clusters of the corpus: copied from a template that is made once, with a database `app` in
 * which a table `t` holds the numbers 1 to 1000. Owns their directories and postmasters.
 */
import { execFile } from 'node:child_process'
import { appendFile, chown, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../coordinator/cli/free-port.ts'
import { type Account, POSTGRES_BIN, runAs } from '../support/postgres-cluster.ts'

const run = promisify(execFile)
const ARCHIVE_DEADLINE_MS = 60_000

export interface ClusterOptions {
  /** Name of its directory. Default `production`. */
  readonly name?: string
  /** The superuser that initdb makes. Default `postgres`. */
  readonly superuser?: string
  /** More arguments of initdb. */
  readonly initdb?: readonly string[]
  /** More of postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>
  /** Where WAL is archived: a directory that `archive_command` copies to. Absent: it is not. */
  readonly walDirectory?: string
}

export interface Cluster {
  readonly directory: string
  readonly dataDirectory: string
  readonly socketDirectory: string
  readonly port: number
  readonly superuser: string
  /** Runs SQL as the superuser; rows are lines, columns separated by `|`. */
  sql(text: string, database?: string): Promise<string>
  /** Appends lines to postgresql.conf; they count from the next start or reload. */
  configure(lines: string): Promise<void>
  /** Ends the WAL segment and waits until the archive has it; asks by `template1`, which nearly every cluster has. */
  switchWal(database?: string): Promise<string>
  start(): Promise<void>
  /** `fast` by default; stopping a stopped cluster does nothing. `immediate` archives nothing more. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
}

/** Makes clusters below `home`, which belongs to `account`. */
export function createClusters(home: string, account: Account) {
  const templates = new Map<string, Promise<string>>()

  /** The data directory that clusters of these arguments are copies of. */
  function template(superuser: string, initdb: readonly string[]): Promise<string> {
    const key = JSON.stringify([superuser, initdb])
    const known = templates.get(key) ?? makeTemplate(templates.size, superuser, initdb)
    templates.set(key, known)
    return known
  }

  async function makeTemplate(index: number, superuser: string, initdb: readonly string[]): Promise<string> {
    const data = join(home, `template-${index}`)
    await runAs(account, join(POSTGRES_BIN, 'initdb'), [
      ...['-D', data, '--data-checksums', '--no-sync', '--auth=trust', '-U', superuser],
      ...['--encoding=UTF8', '--locale=C.UTF-8', ...initdb],
    ])
    const cluster = clusterAt({ directory: home, dataDirectory: data, superuser, port: await freePort() })
    const own = `port = ${cluster.port}\nunix_socket_directories = '${home}'\nlisten_addresses = ''\nfsync = off\n`
    const configuration = join(data, 'postgresql.conf')
    const asMade = await readFile(configuration)
    await cluster.configure(own)
    await cluster.start()
    await cluster.sql('CREATE DATABASE app', 'postgres')
    await cluster.sql('CREATE TABLE t AS SELECT generate_series(1, 1000) AS i')
    await cluster.stop()
    await writeFile(configuration, asMade)
    return data
  }

  function clusterAt(at: {
    readonly directory: string
    readonly dataDirectory: string
    readonly superuser: string
    readonly port: number
  }): Cluster {
    const { directory, dataDirectory, superuser, port } = at
    const sql = async (text: string, database = 'app') => {
      const out = await runAs(
        account,
        join(POSTGRES_BIN, 'psql'),
        [
          ...['-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1'],
          ...['-h', directory, '-p', String(port), '-U', superuser, '-d', database, '-f', '-'],
        ],
        { input: text },
      )
      return out.trimEnd()
    }
    return {
      ...{ directory, dataDirectory, socketDirectory: directory, port, superuser, sql },
      configure: (lines) => appendFile(join(dataDirectory, 'postgresql.conf'), lines),
      async switchWal(database = 'template1') {
        // Something must have happened in the segment, or the switch does nothing.
        const segment = await sql(
          `SELECT pg_create_restore_point('switch') IS NULL \\g /dev/null
           SELECT pg_walfile_name(pg_switch_wal())`,
          database,
        )
        const archived = `SELECT last_archived_wal >= '${segment}' FROM pg_stat_archiver`
        for (const deadline = Date.now() + ARCHIVE_DEADLINE_MS; (await sql(archived, database)) !== 't'; ) {
          if (Date.now() > deadline) throw new Error(`${segment} was not archived in time`)
          await sleep(50)
        }
        return segment
      },
      async start() {
        await runAs(account, join(POSTGRES_BIN, 'pg_ctl'), [
          ...['start', '-w', '-t', '60', '-s', '-D', dataDirectory, '-l', join(home, 'postgres.log')],
        ])
      },
      async stop(mode = 'fast') {
        const pidFile = await readFile(join(dataDirectory, 'postmaster.pid')).catch(() => undefined)
        if (pidFile === undefined) return
        await runAs(account, join(POSTGRES_BIN, 'pg_ctl'), [
          ...['stop', '-w', '-t', '60', '-s', '-m', mode, '-D', dataDirectory],
        ])
      },
    }
  }

  return {
    /** A new cluster in `parent`, started. */
    async make(parent: string, options: ClusterOptions): Promise<Cluster> {
      const { name = 'production', superuser = 'postgres', initdb = [], settings = {} } = options
      const directory = join(parent, name)
      const dataDirectory = join(directory, 'data')
      await mkdir(directory)
      await chown(directory, account.uid, account.gid)
      await run('cp', ['-a', await template(superuser, initdb), dataDirectory])
      const port = await freePort()
      const cluster = clusterAt({ directory, dataDirectory, superuser, port })
      const all: Record<string, string> = {
        port: String(port),
        listen_addresses: '',
        unix_socket_directories: directory,
        fsync: 'off',
        shared_buffers: '16MB',
        max_wal_size: '128MB',
        checkpoint_timeout: '1h',
        autovacuum: 'off',
        ...(options.walDirectory !== undefined && {
          archive_mode: 'on',
          // A segment of which a stop leaves a part is a scenario of its own.
          archive_command: `cp %p ${directory}/%f && mv ${directory}/%f ${options.walDirectory}/`,
        }),
        ...settings,
      }
      const lines = Object.entries(all).map(([key, value]) => `${key} = '${value.replaceAll("'", "''")}'\n`)
      await cluster.configure(lines.join(''))
      await cluster.start()
      return cluster
    },

    async remove(): Promise<void> {
      const made = await Promise.allSettled(templates.values())
      for (const one of made) {
        if (one.status === 'fulfilled') await rm(one.value, { recursive: true, force: true })
      }
    },
  }
}

export type Clusters = ReturnType<typeof createClusters>
