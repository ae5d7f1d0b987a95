/** Owns PostgreSQL servers that the bench starts beside the published ones, and the programs that it runs on both. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../coordinator/cli/free-port.ts'
import { type Account, POSTGRES_BIN, postgresAccount, runAs } from '../support/postgres-cluster.ts'
import type { Scope } from './scope.ts'

const DEADLINE_MS = 600_000
const POLL_MS = 10

/** The address of a server. */
export interface Server {
  /** The directory of its socket. */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
}

export interface StartOptions {
  readonly data: string
  /** Exists, belongs to the account; for the socket and the log. */
  readonly directory: string
  readonly database: string
  /** Given as `-c name=value`. */
  readonly settings?: ReadonlyMap<string, string>
}

/** Starts PostgreSQL and does not wait; stopped when the scope is closed. */
export async function startPostgres(scope: Scope, options: StartOptions): Promise<Server> {
  const account = await postgresAccount()
  const port = await freePort()
  const settings = new Map([
    ...(options.settings ?? []),
    ['port', String(port)],
    ['listen_addresses', 'localhost'],
    ['unix_socket_directories', options.directory],
  ])
  const log = openSync(`${options.directory}/postgresql.log`, 'a', 0o600)
  const server = spawn(
    `${POSTGRES_BIN}/postgres`,
    ['-D', options.data, ...[...settings].flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    { ...identity(account), cwd: '/', env: { LANG: 'C.UTF-8', TZ: 'UTC' }, stdio: ['ignore', log, log] },
  )
  closeSync(log)
  scope.defer('PostgreSQL', () => stop(server))
  return { host: options.directory, port, user: account.name, database: options.database }
}

const identity = ({ uid, gid }: Account) => (process.getuid?.() === uid ? {} : { uid, gid })

/** An immediate shutdown: what it could still write is not needed. */
async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const exited = once(server, 'exit')
  server.kill('SIGQUIT')
  await exited
}

/** Rows are lines, columns separated by `|`. @throws Error with psql's message */
export async function query(server: Server, text: string): Promise<string> {
  const { host, port, user, database } = server
  const out = await runAs(
    await postgresAccount(),
    `${POSTGRES_BIN}/psql`,
    [
      ...['-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-h', host, '-p', String(port)],
      ...['-U', user, '-d', database, '-f', '-'],
    ],
    { input: text },
  )
  return out.trimEnd()
}

/** Queries until the expected answer comes. @throws Error after 10 minutes, with the last answer */
export async function untilAnswered(
  scope: Scope,
  server: Server,
  text: string,
  answer: string,
): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS
  let last = ''
  while (last !== answer) {
    scope.check()
    if (Date.now() > deadline) throw new Error(`still no answer ${answer} but: ${last}`)
    last = await query(server, text).catch(String)
    if (last !== answer) await sleep(POLL_MS)
  }
}

/** Seconds that the server's answer took, by psql's `\timing`. */
export async function timed(server: Server, text: string, before = ''): Promise<number> {
  const out = await query(server, `${before}\n\\timing on\n${text}\n`)
  const milliseconds = /^Time: ([\d.]+) ms/m.exec(out)?.[1]
  if (milliseconds === undefined) throw new Error(`psql printed no time: ${out}`)
  return Number(milliseconds) / 1000
}

export interface PgbenchResult {
  readonly transactions: number
  /** Transactions per second, without the time of connecting. */
  readonly rate: number
}

/** `pgbench -c 4 -j 2 -n` for some seconds. */
export async function pgbench(
  server: Server,
  seconds: number,
  options: readonly string[] = [],
): Promise<PgbenchResult> {
  const { host, port, user, database } = server
  const out = await runAs(await postgresAccount(), `${POSTGRES_BIN}/pgbench`, [
    ...['-c', '4', '-j', '2', '-n', '-T', String(seconds), ...options],
    ...['-h', host, '-p', String(port), '-U', user, database],
  ])
  const transactions = /actually processed: (\d+)/.exec(out)?.[1]
  const rate = /^tps = ([\d.]+)/m.exec(out)?.[1]
  if (transactions === undefined || rate === undefined) throw new Error(`pgbench said: ${out}`)
  return { transactions: Number(transactions), rate: Number(rate) }
}

/** Settings of a server's addresses and paths, and of its recovery, which do not change its speed. */
const PLACES =
  /^(config_file|data_directory|hba_file|ident_file|external_pid_file|port|listen_addresses|unix_socket_.*|cluster_name|recovery_target.*|restore_command|data_directory_mode|log_file_mode|in_hot_standby|primary_.*)$/

/** The `-c` settings that a running server was started with, without these. */
export async function settingsOf(server: Server): Promise<Map<string, string>> {
  const pidFile = await query(server, 'SHOW external_pid_file')
  const pid = (await readFile(pidFile, 'utf8')).trim()
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
  const settings = new Map<string, string>()
  words.forEach((word, index) => {
    const [name = '', ...value] = (words[index + 1] ?? '').split('=')
    if (word === '-c' && !PLACES.test(name)) settings.set(name, value.join('='))
  })
  return settings
}

/** @throws Error naming what differs in the configuration of two servers, without these */
export async function expectSameSettings(one: Server, other: Server): Promise<void> {
  const [left, right] = await Promise.all(
    [one, other].map(async (server) => {
      const rows = await query(server, 'SELECT name, setting FROM pg_settings')
      return new Map(rows.split('\n').map((row) => row.split('|') as [string, string]))
    }),
  )
  const differences = [...(left ?? [])].filter(
    ([name, value]) => !PLACES.test(name) && right?.get(name) !== value,
  )
  if (differences.length === 0) return
  const said = differences.map(([name, value]) => `${name}: ${value} and ${right?.get(name)}`)
  throw new Error(`the servers would not be compared but their settings: ${said.join('; ')}`)
}
