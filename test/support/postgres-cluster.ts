/**
 * Owns a disposable PostgreSQL cluster for tests, the demo and benches: its directory and its postmaster. Must not
 * touch backups; production.ts adds them.
 */
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../../coordinator/cli/free-port.ts'
import { POSTGRES_BIN, POSTGRES_MAJOR } from './installed-postgres.ts'

export { POSTGRES_BIN, POSTGRES_MAJOR }

const DEADLINE_MS = 600_000
const run = promisify(execFile)

/** The operating system account that PostgreSQL runs as: `postgres` when we are root, else ourselves. */
export interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

export async function postgresAccount(): Promise<Account> {
  const uid = process.getuid?.() ?? 0
  const who = uid === 0 ? 'postgres' : String(uid)
  const [name, user, group] = (
    await Promise.all([run('id', ['-un', who]), run('id', ['-u', who]), run('id', ['-g', who])])
  ).map((answer) => answer.stdout.trim())
  return { name: name ?? who, uid: Number(user), gid: Number(group) }
}

/** Runs a program as `account` and returns its stdout. @throws Error with the program's stderr */
export async function runAs(
  account: Account,
  program: string,
  args: readonly string[],
  options: { cwd?: string; input?: string } = {},
): Promise<string> {
  const child = spawn(program, args, {
    ...identity(account),
    cwd: options.cwd ?? '/',
    env: environment(account),
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    timeout: DEADLINE_MS,
  })
  const out: Buffer[] = []
  const errors: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr?.on('data', (chunk: Buffer) => errors.push(chunk))
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(options.input)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const stdout = Buffer.concat(out).toString()
  if (code !== 0) {
    const command = [program, ...args].join(' ')
    throw new Error(`${command} exited with ${code}: ${Buffer.concat(errors).toString() || stdout}`)
  }
  return stdout
}

const identity = (account: Account) =>
  process.getuid?.() === account.uid ? {} : { uid: account.uid, gid: account.gid }

const environment = (account: Account): NodeJS.ProcessEnv => ({
  PATH: `${POSTGRES_BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
  HOME: '/nonexistent',
  USER: account.name,
  LANG: 'C.UTF-8',
  TZ: 'UTC',
})

export interface ClusterOptions {
  /** Exists and belongs to `account`; `data`, `sockets` and `postgres.log` are made in it. */
  readonly directory: string
  readonly account: Account
  /** `outside`: postgresql.conf and pg_hba.conf are in `<directory>/etc`, as on Debian. */
  readonly configuration: 'inside' | 'outside'
  readonly settings: Readonly<Record<string, string>>
  /** The superuser that initdb makes. Default: the account's name. */
  readonly superuser?: string
  /** Directory of initdb, pg_ctl and postgres. Default: `POSTGRES_BIN`. */
  readonly binaries?: string
  /** Options of initdb. Default: data checksums, and the locale C.UTF-8. */
  readonly initdb?: readonly string[]
}

const INITDB = ['--data-checksums', '--locale=C.UTF-8']

export interface Cluster {
  readonly dataDirectory: string
  readonly socketDirectory: string
  readonly port: number
  readonly user: string
  /** Runs SQL by psql; rows are lines, columns separated by `|`. @throws Error with psql's message */
  sql(text: string, database?: string): Promise<string>
  start(): Promise<void>
  /** `fast` by default; stopping a stopped cluster does nothing. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
}

/** Runs initdb and writes the configuration; does not start. */
export async function makeCluster(options: ClusterOptions): Promise<Cluster> {
  const { account, directory, superuser = account.name, binaries = POSTGRES_BIN, initdb = INITDB } = options
  const dataDirectory = join(directory, 'data')
  const socketDirectory = join(directory, 'sockets')
  const configDirectory = options.configuration === 'outside' ? join(directory, 'etc') : dataDirectory
  const port = await freePort()
  await runAs(account, join(binaries, 'initdb'), [
    ...['-D', dataDirectory, '--no-sync', '--auth=trust', '-U', superuser, '--encoding=UTF8'],
    ...initdb,
  ])
  for (const made of [socketDirectory, configDirectory]) {
    await mkdir(made, { recursive: true })
    await chown(made, account.uid, account.gid)
  }
  const settings: Record<string, string> = {
    port: String(port),
    listen_addresses: 'localhost',
    unix_socket_directories: socketDirectory,
    fsync: 'off',
    timezone: 'UTC',
    ...options.settings,
  }
  const configFile = join(configDirectory, 'postgresql.conf')
  if (options.configuration === 'outside') {
    settings.data_directory = dataDirectory
    settings.hba_file = join(configDirectory, 'pg_hba.conf')
    settings.ident_file = join(configDirectory, 'pg_ident.conf')
    for (const name of ['postgresql.conf', 'pg_hba.conf', 'pg_ident.conf']) {
      await runAs(account, 'mv', [join(dataDirectory, name), join(configDirectory, name)])
    }
  }
  const lines = Object.entries(settings).map(([key, value]) => `${key} = '${value.replaceAll("'", "''")}'`)
  await writeFile(configFile, `${await readFile(configFile, 'utf8')}\n${lines.join('\n')}\n`)

  const sql = (text: string, database = 'postgres') =>
    runAs(
      account,
      join(POSTGRES_BIN, 'psql'),
      [
        ...['-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1'],
        ...['-h', socketDirectory, '-p', String(port), '-U', superuser, '-d', database, '-f', '-'],
      ],
      { input: text },
    ).then((out) => out.trimEnd())

  return {
    dataDirectory,
    socketDirectory,
    port,
    user: superuser,
    sql,
    async start() {
      await runAs(account, join(binaries, 'pg_ctl'), [
        ...['start', '-w', '-t', '60', '-s', '-D', configDirectory, '-l', join(directory, 'postgres.log')],
      ])
    },
    async stop(mode = 'fast') {
      if (!existsSync(join(dataDirectory, 'postmaster.pid'))) return
      await runAs(account, join(binaries, 'pg_ctl'), [
        ...['stop', '-w', '-t', '60', '-s', '-m', mode, '-D', dataDirectory],
      ])
    },
  }
}
