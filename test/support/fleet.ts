/**
 * Owns a whole Howdah for tests: coordinator, mount agent and target agent as separate processes with configuration
 * files and directories of their own, on the test run's broker. Each can be killed and started by itself. On request
 * each runs on a host of its own, and the broker, then the fleet's own, on the machine's address between them.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { type FleetBroker, ownBroker, sharedBroker } from './fleet-broker.ts'
import { createFleetClient, type FleetClient, removeSessions, untilAgentsAreOnline } from './fleet-client.ts'
import { changeConfiguration, type FleetConfiguration, writeConfiguration } from './fleet-configuration.ts'
import { createRoles, leftOn, ROLES, type Role, type Roles } from './fleet-roles.ts'
import { type Hosts, makeHosts } from './hosts.ts'
import type { ImitatedKernel } from './kernels/kernels.ts'
import type { Account } from './postgres-cluster.ts'

export interface Fleet extends FleetClient, Pick<Roles, 'start' | 'stop' | 'pid' | 'metricsUrl'> {
  readonly directory: string
  readonly brokerUrl: string
  readonly mountRoot: string
  readonly cacheRoot: string
  /** A client of its own on the fleet's broker. */
  readonly bus: Bus
  /** Each role runs on the host of that name, the broker on `MACHINE`; undefined: everything runs on this machine. */
  readonly hosts: Hosts | undefined
  /** Restarts a role with other top-level entries of its configuration. Returns what restores them. */
  reconfigure(role: Role, changes: object): Promise<() => Promise<void>>
  /** Stops and starts the broker while its clients are connected. */
  restartBroker(options?: { crash?: boolean }): Promise<void>
  /** Unpublishes what is left, stops everything, deletes the directories. Shows the logs when `failed`. */
  remove(failed?: boolean): Promise<void>
}

export interface FleetOptions extends Pick<FleetConfiguration, 'repositories'> {
  /** More of the target agent's configuration. */
  readonly target?: object
  /** Runs the target agent as this account, which then owns what the agent needs. Default: our own account. */
  readonly targetAccount?: Account
  /** More of the coordinator's configuration. */
  readonly coordinator?: object
  /** Whether each role is on a host of its own. Takes root. */
  readonly hosts?: boolean
  /** The kernel that the target agent sees; default: this one. */
  readonly kernel?: ImitatedKernel
}

/** The directories of one fleet. */
interface Directories {
  readonly directory: string
  readonly mountRoot: string
  readonly cacheHome: string
  readonly cacheRoot: string
}

/** Resolves when both agents are registered. */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const directories = await makeDirectories()
  const { directory, mountRoot, cacheRoot } = directories
  const { targetAccount } = options
  const hosts = options.hosts ? await makeHosts(ROLES) : undefined
  const broker = hosts ? await ownBroker(path.join(directory, 'broker'), hosts) : await sharedBroker()
  const bus = await connectBus({
    url: broker.url,
    appId: 'test',
    role: 'coordinator', // tests ask agents, too
    logger: pino({ level: 'silent' }),
  })
  const roles = createRoles({ directory, hosts, targetAccount, kernel: options.kernel })
  const client = createFleetClient({ bus, brokerUrl: broker.url, logTails: () => roles.logTails(20) })

  try {
    await writeConfiguration({
      directory,
      mountRoot,
      cacheRoot,
      brokerUrl: broker.url,
      mountAgentAddress: hosts?.address('mount-agent') ?? '127.0.0.1',
      repositories: options.repositories,
      target: options.target,
      coordinator: options.coordinator,
      targetAccount,
    })
    await Promise.all(ROLES.map(roles.start))
    await untilAgentsAreOnline(bus)
  } catch (error) {
    await roles.stopAll('SIGKILL')
    await bus.close()
    await broker.remove()
    await hosts?.remove()
    throw error
  }

  return {
    ...client,
    directory,
    brokerUrl: broker.url,
    mountRoot,
    cacheRoot,
    bus,
    hosts,
    restartBroker: (how) => broker.restart(how),
    async reconfigure(role, changes) {
      const change = async (entries: object): Promise<object> => {
        const previous = await changeConfiguration(directory, role, entries)
        await roles.stop(role)
        await roles.start(role)
        return previous
      }
      const before = await change(changes)
      return async () => {
        await change(before)
      }
    },
    start: roles.start,
    stop: roles.stop,
    pid: roles.pid,
    metricsUrl: roles.metricsUrl,
    remove: (failed = false) => removeFleet({ directories, hosts, broker, bus, roles, client, failed }),
  }
}

interface Parts {
  readonly directories: Directories
  readonly hosts: Hosts | undefined
  readonly broker: FleetBroker
  readonly bus: Bus
  readonly roles: Roles
  readonly client: FleetClient
  readonly failed: boolean
}

/** @throws Error when something still runs on the hosts afterwards */
async function removeFleet(parts: Parts): Promise<void> {
  const { directories, hosts, broker, bus, roles, client } = parts
  let left: readonly string[] = []
  try {
    await hosts?.restoreAll()
    await roles.startAll()
    await removeSessions(bus, client)
  } finally {
    await roles.stopAll()
    await bus.close()
    await broker.remove()
    if (hosts) left = await leftOn(hosts)
    await hosts?.remove()
    if (parts.failed) process.stderr.write(await roles.logTails(60))
    await rm(directories.directory, { recursive: true, force: true })
    await rm(directories.cacheHome, { recursive: true, force: true })
  }
  if (left.length > 0) throw new Error(`processes were left on the hosts: ${left.join('; ')}`)
}

async function makeDirectories(): Promise<Directories> {
  const directory = await mkdtemp(path.join(tmpdir(), 'howdah-fleet-'))
  const cacheHome = await mkdtemp('/var/tmp/howdah-fleet-')
  // The instance's user passes through both.
  for (const passed of [directory, cacheHome]) await chmod(passed, 0o711)
  return {
    directory,
    mountRoot: path.join(directory, 'mnt'),
    cacheHome,
    cacheRoot: path.join(cacheHome, 'cache'),
  }
}
