/**
 * A whole Howdah for tests: coordinator, mount agent and target agent as separate processes with configuration files,
 * on the test run's private broker, with directories of their own. Each can be killed and started by itself. Asked to,
 * each is on a host of its own, and the broker, then the fleet's own, on the machine's address among them.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import type { RepositoryConfig } from '../../config/formats.ts'
import { startPrivateBroker } from '../../coordinator/cli/broker.ts'
import { ensureCertificates } from '../../coordinator/cli/certificates.ts'
import { freePort } from '../../coordinator/cli/free-port.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import type { SessionView, Usage } from '../../messages/values.ts'
import { restartBroker, testVhost } from './broker.ts'
import { type Hosts, MACHINE, makeHosts } from './hosts.ts'
import { type Account, postgresAccount, runAs } from './postgres-cluster.ts'

export type Role = 'coordinator' | 'mount-agent' | 'target-agent'

const ROLES: readonly Role[] = ['coordinator', 'mount-agent', 'target-agent']
const LAUNCHER = fileURLToPath(new URL('../../bin/howdah', import.meta.url))
const READY_DEADLINE_MS = 30_000

export interface CommandOutcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface Fleet {
  readonly directory: string
  readonly brokerUrl: string
  readonly mountRoot: string
  readonly cacheRoot: string
  /** A client of its own on the fleet's broker. */
  readonly bus: Bus
  /** Each role is on the host that is called as it is, the broker on `MACHINE`; undefined: all are on this one. */
  readonly hosts: Hosts | undefined
  /** Stops and starts the broker under everybody's hands. */
  restartBroker(options?: { crash?: boolean }): Promise<void>
  /** Starts a role and waits until it consumes. */
  start(role: Role): Promise<void>
  /** SIGTERM by default; resolves when the process is gone. */
  stop(role: Role, signal?: NodeJS.Signals): Promise<void>
  /** Process id of a role that runs. */
  pid(role: Role): number
  /** Runs `bin/howdah` with the fleet's broker. */
  howdah(...args: string[]): Promise<CommandOutcome>
  /** Runs a verb with `--json`, expects success, and gives the document. */
  howdahJson<T>(...args: string[]): Promise<T>
  publish(...args: string[]): Promise<SessionView>
  show(session: string): Promise<SessionView>
  /** What the target says that a session takes, once it was told, which it is soon after it was published. */
  usage(session: string): Promise<Usage>
  /** Polls until the session is in the state; fails at once when it settled in another one. */
  untilState(session: string, state: SessionView['state'], seconds?: number): Promise<SessionView>
  /** Runs SQL in a published instance as its superuser; rows are lines, columns separated by `|`. */
  sql(session: SessionView, text: string, database?: string): Promise<string>
  /** Unpublishes what is left, stops everything, deletes the directories. Logs are shown when `failed`. */
  remove(failed?: boolean): Promise<void>
}

export interface FleetOptions {
  readonly repositories: readonly RepositoryConfig[]
  /** More of the target agent's configuration. */
  readonly target?: object
  /** Runs the target agent as this account; it then owns what the agent needs. Default: as ourselves. */
  readonly targetAccount?: Account
  /** More of the coordinator's configuration. */
  readonly coordinator?: object
  /** Whether each role is on a host of its own. Takes root. */
  readonly hosts?: boolean
}

export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const directory = await mkdtemp(path.join(tmpdir(), 'howdah-fleet-'))
  const mountRoot = path.join(directory, 'mnt')
  const cacheHome = await mkdtemp('/var/tmp/howdah-fleet-')
  const cacheRoot = path.join(cacheHome, 'cache')
  // The instance's user passes through both.
  for (const passed of [directory, cacheHome]) await chmod(passed, 0o711)
  const roles = new Map<Role, ChildProcess>()
  const logFile = (role: Role): string => path.join(directory, `${role}.log`)
  const hosts = options.hosts ? await makeHosts(ROLES) : undefined
  const addressOf = (role: Role): string => hosts?.address(role) ?? '127.0.0.1'
  const broker = hosts ? await ownBroker(path.join(directory, 'broker'), hosts) : await sharedBroker()
  const bus = await connectBus({ url: broker.url, appId: 'test', logger: pino({ level: 'silent' }) })

  async function writeConfiguration(): Promise<void> {
    const tls = path.join(directory, 'tls')
    await ensureCertificates(tls, {
      agents: [
        { kind: 'mount', name: 'backup-1', addresses: [addressOf('mount-agent'), 'localhost'] },
        { kind: 'target', name: 'db-7', addresses: [] },
      ],
    })
    const tlsFiles = (name: string): object => ({
      ca: path.join(tls, 'ca.pem'),
      certificate: path.join(tls, `${name}.pem`),
      key: path.join(tls, `${name}.key`),
    })
    // Fleets of other test runs choose ports at the same time.
    const firstPort = await freePort()
    const common = { broker: { url: broker.url }, log: { level: 'debug' } }
    const files: Record<Role, object> = {
      coordinator: {
        ...common,
        store: { path: path.join(directory, 'coordinator', 'store.sqlite') },
        // More than an agent takes to try the broker again after a restart.
        heartbeat: { lostAfter: 8 },
        retry: { firstDelay: 0.2, maxDelay: 2 },
        ...options.coordinator,
      },
      'mount-agent': {
        ...common,
        name: 'backup-1',
        stateDirectory: path.join(directory, 'mount-agent'),
        repositories: options.repositories,
        dataPlane: {
          host: addressOf('mount-agent'),
          port: await freePort(),
          advertise: addressOf('mount-agent'),
        },
        tls: tlsFiles('mount-backup-1'),
        heartbeat: { interval: 1 },
      },
      'target-agent': {
        ...common,
        name: 'db-7',
        stateDirectory: path.join(directory, 'target-agent'),
        mountRoot,
        cacheRoot,
        tls: tlsFiles('target-db-7'),
        heartbeat: { interval: 1 },
        postgres: { firstPort, lastPort: firstPort + 100 },
        ...options.target,
      },
    }
    for (const role of ROLES) {
      await writeFile(path.join(directory, `${role}.json`), JSON.stringify(files[role]), { mode: 0o600 })
    }
    if (options.targetAccount) await giveToTarget(options.targetAccount, tls)
  }

  /** What an administrator does for an agent without root: its files are its own, and so are its directories. */
  async function giveToTarget({ uid, gid }: Account, tls: string): Promise<void> {
    await chmod(tls, 0o711)
    for (const file of [`${tls}/target-db-7.key`, `${directory}/target-agent.json`])
      await chown(file, uid, gid)
    for (const made of [`${directory}/target-agent`, mountRoot, cacheRoot]) {
      await mkdir(made, { mode: 0o711 })
      await chown(made, uid, gid)
    }
  }

  async function start(role: Role): Promise<void> {
    const command = [LAUNCHER, role, '--config', path.join(directory, `${role}.json`), '--json'] as const
    const [program, ...args] = hosts?.on(role, command) ?? command
    const child = spawn(program, args, {
      cwd: '/',
      env: cleanEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(role === 'target-agent' && accountOf(options.targetAccount)),
    })
    roles.set(role, child)
    child.stderr.on('data', (chunk: Buffer) => appendFileSync(logFile(role), chunk))
    const ended = once(child, 'exit').then(async () => {
      throw new Error(`${role} ended: ${(await tail(logFile(role), 10)) || 'it logged nothing'}`)
    })
    ended.catch(() => undefined)
    const ready = once(child.stdout, 'data')
    const late = AbortSignal.timeout(READY_DEADLINE_MS)
    await Promise.race([
      ready,
      ended,
      once(late, 'abort').then(() => Promise.reject(new Error(`${role} is not ready`))),
    ])
  }

  async function stop(role: Role, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = roles.get(role)
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }

  async function howdah(...args: string[]): Promise<CommandOutcome> {
    const child = spawn(LAUNCHER, [...args, '--broker', broker.url], {
      cwd: '/',
      env: cleanEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const [status] = (await once(child, 'close')) as [number | null]
    return { status: status ?? -1, stdout, stderr }
  }

  async function howdahJson<T>(...args: string[]): Promise<T> {
    const { status, stdout, stderr } = await howdah(...args, '--json')
    if (status !== 0) throw new Error(`howdah ${args.join(' ')} exited with ${status}: ${stderr}\n${stdout}`)
    return JSON.parse(stdout) as T
  }

  async function logTails(lines: number): Promise<string> {
    const tails = await Promise.all(ROLES.map((role) => tail(logFile(role), lines)))
    return ROLES.map((role, index) => `\n--- ${role}\n${tails[index]}\n`).join('')
  }

  async function show(session: string): Promise<SessionView> {
    const reply = await bus.request('session.show', { session })
    if (!reply.accepted) throw new Error(`session.show ${session}: ${reply.error.message}`)
    return reply.session
  }

  async function removeSessions(): Promise<void> {
    const reply = await bus.request('session.list', {}, { timeoutMs: 10_000 })
    if (!reply.accepted) return
    for (const { id } of reply.sessions) {
      await bus.request('session.unpublish', { session: id })
      await untilState(id, 'closed', 30)
    }
  }

  async function usage(session: string): Promise<Usage> {
    for (const deadline = Date.now() + 20_000; ; ) {
      const view = await show(session)
      if (view.usage !== undefined) return view.usage
      if (Date.now() > deadline) throw new Error(`what ${session} takes was not told in 20 s`)
      await sleep(50)
    }
  }

  async function untilState(
    session: string,
    state: SessionView['state'],
    seconds = 60,
  ): Promise<SessionView> {
    const deadline = Date.now() + seconds * 1000
    for (;;) {
      const view = await show(session)
      if (view.state === state) return view
      if ((view.state === 'closed' || view.state === 'failed') && view.state !== state) {
        throw new Error(`${session} is ${view.state}, not ${state}: ${JSON.stringify(view.error)}`)
      }
      if (Date.now() > deadline) throw new Error(`${session} is still not ${state}: ${JSON.stringify(view)}`)
      await sleep(50)
    }
  }

  try {
    await writeConfiguration()
    await Promise.all(ROLES.map(start))
    await untilOnline(bus)
  } catch (error) {
    for (const role of ROLES) await stop(role, 'SIGKILL')
    await bus.close()
    await broker.remove()
    await hosts?.remove()
    throw error
  }

  return {
    directory,
    brokerUrl: broker.url,
    mountRoot,
    cacheRoot,
    bus,
    hosts,
    restartBroker: (how) => broker.restart(how),
    start,
    stop,
    pid(role) {
      const pid = roles.get(role)?.pid
      if (pid === undefined) throw new Error(`the ${role} does not run`)
      return pid
    },
    howdah,
    howdahJson,
    show,
    usage,
    untilState,
    publish: (...args) =>
      howdahJson<SessionView>('publish', '--target', 'db-7', ...args).catch(async (error: Error) => {
        // The fleet, and its logs with it, may be gone before anybody can look.
        throw new Error(`${error.message}\n${await logTails(20)}`, { cause: error })
      }),
    async sql(session, text, database = 'postgres') {
      const { connection } = session
      if (!connection) throw new Error(`${session.id} has no connection`)
      const { host, port, user } = connection
      const args = ['-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-h', host, '-p', String(port)]
      const account = await postgresAccount()
      return (
        await runAs(account, 'psql', [...args, '-U', user, '-d', database, '-f', '-'], { input: text })
      ).trimEnd()
    },
    async remove(failed = false) {
      let left: string[] = []
      try {
        await hosts?.restoreAll()
        for (const role of ROLES) if (!isRunning(roles.get(role))) await start(role)
        await removeSessions()
      } finally {
        for (const role of ROLES) await stop(role)
        await bus.close()
        await broker.remove()
        left = await leftOn(hosts)
        await hosts?.remove()
        if (failed) process.stderr.write(await logTails(60))
        await rm(directory, { recursive: true, force: true })
        await rm(cacheHome, { recursive: true, force: true })
      }
      if (left.length > 0) throw new Error(`processes were left on the hosts: ${left.join('; ')}`)
    },
  }
}

interface FleetBroker {
  readonly url: string
  restart(options?: { crash?: boolean }): Promise<void>
  remove(): Promise<void>
}

/** A virtual host of the run's broker. */
async function sharedBroker(): Promise<FleetBroker> {
  return { ...(await testVhost()), restart: restartBroker }
}

/** A broker that the hosts reach, and whose clients notice within seconds when they do not. */
async function ownBroker(directory: string, hosts: Hosts): Promise<FleetBroker> {
  try {
    const logger = pino({ level: 'silent' })
    const broker = await startPrivateBroker({ directory, address: hosts.address(MACHINE), logger })
    return {
      url: `${broker.url}?heartbeat=${HEARTBEAT_SECONDS}`,
      restart: (how) => broker.restart(how),
      remove: () => broker.stop(),
    }
  } catch (error) {
    await hosts.remove()
    throw error
  }
}

const HEARTBEAT_SECONDS = 2
/** What ends by itself when its agent does may take a moment. */
const LEFT_GRACE_MS = 5_000

/** Command lines of what still runs on the hosts when nothing should. */
async function leftOn(hosts: Hosts | undefined): Promise<string[]> {
  if (!hosts) return []
  const deadline = Date.now() + LEFT_GRACE_MS
  for (;;) {
    const pids = (await Promise.all(ROLES.map((role) => hosts.processes(role)))).flat()
    if (pids.length === 0) return []
    if (Date.now() > deadline) {
      return Promise.all(
        pids.map(async (pid) => {
          const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
          return `${pid} ${words.replaceAll('\0', ' ').trim()}`
        }),
      )
    }
    await sleep(50)
  }
}

/** Both agents have registered with the coordinator. */
async function untilOnline(bus: Bus): Promise<void> {
  const deadline = Date.now() + READY_DEADLINE_MS
  for (;;) {
    const reply = await bus.request('agent.list', {})
    if (reply.accepted && reply.agents.filter(({ online }) => online).length === 2) return
    if (Date.now() > deadline) throw new Error(`agents are not online: ${JSON.stringify(reply)}`)
    await sleep(50)
  }
}

function accountOf(account: Account | undefined): { uid?: number; gid?: number } {
  return account === undefined ? {} : { uid: account.uid, gid: account.gid }
}

function isRunning(child: ChildProcess | undefined): boolean {
  return child !== undefined && child.exitCode === null && child.signalCode === null
}

function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HOWDAH_')))
}

async function tail(file: string, lines: number): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text.trimEnd().split('\n').slice(-lines).join('\n')
}
