/** Owns the processes of a test fleet: one for each role, each started, stopped and killed by itself, with a log. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Hosts } from './hosts.ts'
import { type ImitatedKernel, imitating } from './kernels/kernels.ts'
import { poll } from './poll.ts'
import type { Account } from './postgres-cluster.ts'
import { watchedEnvironment } from './secrets.ts'

export type Role = 'coordinator' | 'mount-agent' | 'target-agent'

export const ROLES: readonly Role[] = ['coordinator', 'mount-agent', 'target-agent']
export const LAUNCHER = fileURLToPath(new URL('../../bin/howdah', import.meta.url))
export const READY_DEADLINE_MS = 30_000
/** Children of an agent that end with it may take a moment. */
const END_GRACE_MS = 5_000

export interface Roles {
  /** Starts a role and waits until it consumes. */
  start(role: Role): Promise<void>
  /** Starts those that do not run. */
  startAll(): Promise<void>
  /** SIGTERM by default; resolves when the process has ended. */
  stop(role: Role, signal?: NodeJS.Signals): Promise<void>
  stopAll(signal?: NodeJS.Signals): Promise<void>
  /** Where a role that runs answers for metrics and health, without a slash at the end. */
  metricsUrl(role: Role): string
  /** Process id of a role that runs. */
  pid(role: Role): number
  /** The last lines of all logs. */
  logTails(lines: number): Promise<string>
}

export interface RolesOptions {
  /** Has the configuration file of each role, and gets the logs. */
  readonly directory: string
  /** Undefined: all roles run on this machine. */
  readonly hosts: Hosts | undefined
  /** The account that the target agent runs as; undefined: our own. */
  readonly targetAccount: Account | undefined
  /** The kernel that the target agent sees; undefined: this one. */
  readonly kernel?: ImitatedKernel | undefined
}

export function createRoles({ directory, hosts, targetAccount, kernel }: RolesOptions): Roles {
  const children = new Map<Role, ChildProcess>()
  const metricsUrls = new Map<Role, string>()
  const logFile = (role: Role): string => path.join(directory, `${role}.log`)

  async function start(role: Role): Promise<void> {
    const command = [LAUNCHER, role, '--config', path.join(directory, `${role}.json`), '--json'] as const
    const [program, ...args] = hosts?.on(role, command) ?? command
    const child = imitating(role === 'target-agent' ? kernel : undefined, () =>
      spawn(program, args, {
        cwd: '/',
        env: cleanEnvironment(),
        stdio: ['ignore', 'pipe', 'pipe'],
        ...(role === 'target-agent' && targetAccount && { uid: targetAccount.uid, gid: targetAccount.gid }),
      }),
    )
    children.set(role, child)
    child.stderr.on('data', (chunk: Buffer) => appendFileSync(logFile(role), chunk))
    const ended = once(child, 'exit').then(async () => {
      throw new Error(`${role} ended: ${(await tail(logFile(role), 10)) || 'it logged nothing'}`)
    })
    ended.catch(() => undefined)
    const ready = once(child.stdout, 'data').then(([line]) => {
      const { metrics } = JSON.parse(String(line)) as { metrics: { host: string; port: number } }
      metricsUrls.set(role, `http://${metrics.host}:${metrics.port}`)
    })
    const late = AbortSignal.timeout(READY_DEADLINE_MS)
    await Promise.race([
      ready,
      ended,
      once(late, 'abort').then(() => Promise.reject(new Error(`${role} is not ready`))),
    ])
  }

  async function stop(role: Role, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = children.get(role)
    if (!child || !isRunning(child)) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }

  return {
    start,
    stop,
    async startAll() {
      for (const role of ROLES) if (!isRunning(children.get(role))) await start(role)
    },
    async stopAll(signal) {
      for (const role of ROLES) await stop(role, signal)
    },
    metricsUrl(role) {
      const url = metricsUrls.get(role)
      if (url === undefined) throw new Error(`the ${role} was never ready`)
      return url
    },
    pid(role) {
      const pid = children.get(role)?.pid
      if (pid === undefined) throw new Error(`the ${role} does not run`)
      return pid
    },
    async logTails(lines) {
      const tails = await Promise.all(ROLES.map((role) => tail(logFile(role), lines)))
      return ROLES.map((role, index) => `\n--- ${role}\n${tails[index]}\n`).join('')
    },
  }
}

/** Command lines of what still runs on the hosts after all roles were stopped. */
export async function leftOn(hosts: Hosts): Promise<string[]> {
  const deadline = Date.now() + END_GRACE_MS
  const left = await poll(
    async () => {
      const pids = (await Promise.all(ROLES.map((role) => hosts.processes(role)))).flat()
      return pids.length === 0 || Date.now() > deadline ? pids : undefined
    },
    { deadlineMs: 2 * END_GRACE_MS, failure: () => 'the processes of the hosts cannot be listed' },
  )
  return Promise.all(left.map(commandLine))
}

async function commandLine(pid: number): Promise<string> {
  const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return `${pid} ${words.replaceAll('\0', ' ').trim()}`
}

/** Ours without what would be configuration; what is started with it is watched for secrets. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('HOWDAH_')),
  )
  return watchedEnvironment(clean)
}

function isRunning(child: ChildProcess | undefined): boolean {
  return child !== undefined && child.exitCode === null && child.signalCode === null
}

async function tail(file: string, lines: number): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text.trimEnd().split('\n').slice(-lines).join('\n')
}
