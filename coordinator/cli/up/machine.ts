/**
 * Everything of Howdah on one machine: broker, certificates, configuration files and the three roles, started in
 * order and stopped in the reverse.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { userInfo } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { RepositoryConfig } from '../../../config/formats.ts'
import { identify, isAlive } from '../../../config/process-identity.ts'
import type { CommonConfig } from '../../../config/schema.ts'
import type { Bus } from '../../../messages/bus.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { ensureCertificates } from '../../fleet/authority/certificates.ts'
import { type PrivateBroker, startPrivateBroker } from '../broker.ts'
import { freePort } from '../free-port.ts'
import { ask, isTransient } from '../request.ts'
import { type ConsoleAddress, removeConsoleFile, writeConsoleFile } from './console-file.ts'
import { stopLeftovers } from './leftovers.ts'
import { AGENT_NAME, LOOPBACK, readPrevious, roleEnvironment, writeRoleFiles } from './role-files.ts'
import { type RoleName, type RoleProcess, startRole } from './role-process.ts'
import type { StateDirectory } from './state-directory.ts'

type Broker = CommonConfig['broker']

/** As long as a role takes at most to stop in order. */
const LEFTOVER_DEADLINE_MS = 25_000
const READY_DEADLINE_MS = 60_000
const BROKER_CHECK_MS = 2000
/** Agents stop last: the coordinator's queues still take the events of what they finish. */
const STOP_ORDER: readonly RoleName[] = ['coordinator', 'target-agent', 'mount-agent']

export interface MachineOptions {
  readonly state: StateDirectory
  readonly repositories: readonly RepositoryConfig[]
  /** Undefined: a private one. */
  readonly broker: Broker | undefined
  /** Runs the console of the private broker. */
  readonly console: boolean
  readonly env: NodeJS.ProcessEnv
  readonly logger: Logger
  readonly onNotice: (text: string) => void
  /** Announces what is being started. */
  readonly onStep: (text: string) => void
  readonly connect: (broker: Broker) => Promise<Bus>
  /** Aborts the start. */
  readonly signal: AbortSignal
  /** Ends the waits of stopping. */
  readonly forceStop: AbortSignal
}

export interface Machine {
  readonly brokerUrls: readonly string[]
  /** Without credentials; undefined: there is none. */
  readonly console: ConsoleAddress | undefined
  readonly bus: Bus
  stop(): Promise<void>
}

/**
 * Resolves once coordinator and agents consume.
 * @throws HowdahError that says which part did not start and why; everything that was started is stopped again
 */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const { state, logger, onNotice, onStep, signal, env } = options
  const undo: (() => Promise<void>)[] = []
  const stop = async () => {
    for (const step of undo.splice(0).reverse()) {
      await step().catch((error: unknown) => {
        logger.error({ err: error }, 'stopping a part failed')
        onNotice(`stopping a part failed: ${error instanceof Error ? error.message : String(error)}`)
      })
    }
  }
  try {
    const leftovers = await stopLeftovers(path.join(state.path, 'run'), LEFTOVER_DEADLINE_MS, logger)
    if (leftovers.length > 0)
      onNotice(`stopped what an earlier "howdah up" left behind: ${leftovers.join(', ')}`)
    signal.throwIfAborted()

    let used = options.broker
    let shown: ConsoleAddress | undefined
    removeConsoleFile(state.path)
    if (used === undefined) {
      onStep('starting a private RabbitMQ')
      const own = await part('the private broker', () =>
        startPrivateBroker({
          ...{ directory: path.join(state.path, 'broker'), logger },
          management: options.console,
        }),
      )
      const watch = keepRunning(own, logger, onNotice)
      undo.push(async () => {
        await watch.stop()
        await own.stop()
      })
      if (own.managementUrl !== undefined) {
        shown = writeConsoleFile(state.path, own.managementUrl)
        undo.push(async () => removeConsoleFile(state.path))
      }
      used = { urls: [own.url], ca: null, certificate: null, key: null }
    }
    const broker = used
    signal.throwIfAborted()
    state.announce(broker.urls.join(','))

    const bus = await part('the connection to the broker', () => options.connect(broker))
    undo.push(() => bus.close())
    await part('the broker', () => declareQueues(bus))
    const files = await prepareFiles(options, broker)
    onStep('starting coordinator and agents')
    const startedAt = Date.now()
    const launcher = findLauncher()
    const roles = STOP_ORDER.map((role) =>
      startRole({
        role,
        launcher,
        configFile: files[role],
        stateDirectory: state.path,
        env: roleEnvironment(env),
        logger,
        onNotice,
      }),
    )
    undo.push(async () => {
      for (const role of roles) await role.stop(options.forceStop)
    })

    await waitUntilReady(bus, roles, startedAt, signal)
    for (const role of roles) role.markReady()
    return { brokerUrls: broker.urls, console: shown, bus, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** So that the roles, which are started at once, find their queues. */
async function declareQueues(bus: Bus): Promise<void> {
  await bus.declareTopology()
  for (const kind of ['mount', 'target'] as const) await bus.enroll({ kind, name: AGENT_NAME })
}

/** Restarts the private broker when it dies. */
function keepRunning(broker: PrivateBroker, logger: Logger, onNotice: (text: string) => void) {
  let identity = identify(broker.pid)
  let restarting: Promise<void> | undefined
  const restart = async () => {
    onNotice('the private RabbitMQ died; restarting it')
    try {
      await broker.restart()
      identity = identify(broker.pid)
    } catch (error) {
      logger.error({ err: error }, 'the private broker cannot be restarted')
      onNotice(
        `the private RabbitMQ cannot be restarted: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
    restarting = undefined
  }
  const timer = setInterval(() => {
    const isRunning = identity !== undefined && isAlive(identity)
    if (!isRunning && restarting === undefined) restarting = restart()
  }, BROKER_CHECK_MS)
  return {
    stop: async () => {
      clearInterval(timer)
      await restarting
    },
  }
}

async function prepareFiles(options: MachineOptions, broker: Broker) {
  const { state, repositories } = options
  for (const role of STOP_ORDER) mkdirSync(path.join(state.path, role), { recursive: true, mode: 0o700 })
  const [mountCertificate, targetCertificate] = await part('the certificates', () =>
    ensureCertificates(path.join(state.path, 'tls'), {
      isPrivate: true,
      identities: [
        { kind: 'mount', name: AGENT_NAME, addresses: [LOOPBACK, 'localhost'] },
        { kind: 'target', name: AGENT_NAME, addresses: [] },
      ],
    }),
  )
  if (mountCertificate === undefined || targetCertificate === undefined) {
    throw new HowdahError('internal', 'the certificate of an agent was not issued')
  }
  return writeRoleFiles({
    stateDirectory: state.path,
    broker,
    repositories,
    // Mount processes that outlived the last `up` reconnect to the port that they know.
    dataPlanePort: await freePort(LOOPBACK, readPrevious(state.path)?.dataPlane.port),
    mountCertificate,
    targetCertificate,
    isPrivate: options.broker === undefined,
    postgresUser: process.getuid?.() === 0 ? undefined : userInfo().username,
  })
}

/** Waits until the coordinator answers and both agents have registered since they were started. */
async function waitUntilReady(
  bus: Bus,
  roles: readonly RoleProcess[],
  startedAt: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + READY_DEADLINE_MS
  const kinds = ['mount', 'target'] as const
  let missing = 'the coordinator does not answer'
  while (Date.now() < deadline) {
    for (const role of roles) {
      const reason = role.startFailure()
      if (reason !== undefined) {
        throw new HowdahError(
          'internal',
          `${role.role} does not start: ${reason}; its log is ${role.logFile}`,
        )
      }
    }
    try {
      const { agents } = await ask(bus, 'agent.list', {}, { signal, deadlineMs: 2000, tryMs: 2000 })
      const absent = kinds.filter(
        (kind) =>
          !agents.some(
            (agent) =>
              agent.kind === kind &&
              agent.name === AGENT_NAME &&
              agent.online &&
              Date.parse(agent.lastSeen) >= startedAt,
          ),
      )
      if (absent.length === 0) return
      missing = `the ${absent.join(' and the ')} agent did not register`
    } catch (error) {
      if (signal.aborted) throw signal.reason
      const isStarting = error instanceof HowdahError && error.code === 'unroutable'
      if (!isStarting && !isTransient(error)) throw error
      missing = `the coordinator does not answer (${error.message})`
    }
    await sleep(100, undefined, { signal })
  }
  const logs = path.dirname(roles[0]?.logFile ?? '')
  throw new HowdahError(
    'timeout',
    `not ready after ${READY_DEADLINE_MS / 1000} s: ${missing}; the logs are in ${logs}`,
  )
}

async function part<T>(name: string, start: () => Promise<T>): Promise<T> {
  try {
    return await start()
  } catch (error) {
    const code = error instanceof HowdahError ? error.code : 'internal'
    const reason = error instanceof Error ? error.message : String(error)
    throw new HowdahError(code, `${name} does not start: ${reason}`, { cause: error })
  }
}

/** `bin/howdah` of this installation: above the sources, or above `dist/`. */
function findLauncher(): string {
  for (let directory = import.meta.dirname; directory !== '/'; directory = path.dirname(directory)) {
    const launcher = path.join(directory, 'bin', 'howdah')
    if (existsSync(launcher)) return launcher
  }
  throw new HowdahError('internal', 'bin/howdah is missing; install Howdah again')
}
