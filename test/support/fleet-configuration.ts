/** Owns the files that a test fleet is configured with: one configuration file for each role, and certificates. */
import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { RepositoryConfig } from '../../config/formats.ts'
import { freePort } from '../../coordinator/cli/free-port.ts'
import { ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import type { Role } from './fleet-roles.ts'
import type { Account } from './postgres-cluster.ts'

export interface FleetConfiguration {
  readonly directory: string
  readonly mountRoot: string
  readonly cacheRoot: string
  readonly brokerUrl: string
  /** The address at which other roles reach the mount agent. */
  readonly mountAgentAddress: string
  readonly repositories: readonly RepositoryConfig[]
  /** More of the target agent's configuration. */
  readonly target: object | undefined
  /** More of the coordinator's configuration. */
  readonly coordinator: object | undefined
  /** The account that the target agent runs as; undefined: our own. */
  readonly targetAccount: Account | undefined
}

/** The configuration file of a role. */
export const configurationFile = (directory: string, role: Role): string =>
  path.join(directory, `${role}.json`)

export async function writeConfiguration(fleet: FleetConfiguration): Promise<void> {
  const { directory, targetAccount } = fleet
  const tls = path.join(directory, 'tls')
  await ensureCertificates(tls, {
    identities: [
      { kind: 'mount', name: 'backup-1', addresses: [fleet.mountAgentAddress, 'localhost'] },
      { kind: 'target', name: 'db-7', addresses: [] },
    ],
  })
  const common = {
    broker: { url: fleet.brokerUrl },
    log: { level: 'debug' },
    metrics: { listen: '127.0.0.1:0' },
  }
  const files: Record<Role, object> = {
    coordinator: {
      ...common,
      store: { path: path.join(directory, 'coordinator', 'store.sqlite') },
      // Longer than an agent takes to retry the broker after a restart.
      heartbeat: { interval: 1, lostAfter: 8 },
      retry: { firstDelay: 0.2, maxDelay: 2 },
      ...fleet.coordinator,
    },
    'mount-agent': { ...common, ...(await mountAgent(fleet, tls)) },
    'target-agent': { ...common, ...(await targetAgent(fleet, tls)) },
  }
  for (const [role, file] of Object.entries(files) as [Role, object][]) {
    await writeFile(configurationFile(directory, role), JSON.stringify(file), { mode: 0o600 })
  }
  if (targetAccount) await giveToTarget(fleet, targetAccount, tls)
}

/** Replaces top-level entries of a role's configuration. Returns the whole of it as it was before. */
export async function changeConfiguration(directory: string, role: Role, changes: object): Promise<object> {
  const file = configurationFile(directory, role)
  const before = JSON.parse(await readFile(file, 'utf8')) as object
  await writeFile(file, JSON.stringify({ ...before, ...changes }))
  return before
}

async function mountAgent(fleet: FleetConfiguration, tls: string): Promise<object> {
  const { directory, repositories, mountAgentAddress: host } = fleet
  return {
    name: 'backup-1',
    stateDirectory: path.join(directory, 'mount-agent'),
    repositories,
    dataPlane: { host, port: await freePort(), advertise: host },
    tls: tlsFiles(tls, 'mount-backup-1'),
    heartbeat: { interval: 1 },
  }
}

async function targetAgent(fleet: FleetConfiguration, tls: string): Promise<object> {
  const { directory, mountRoot, cacheRoot } = fleet
  // Fleets of other test runs choose ports at the same time.
  const firstPort = await freePort()
  return {
    name: 'db-7',
    stateDirectory: path.join(directory, 'target-agent'),
    mountRoot,
    cacheRoot,
    tls: tlsFiles(tls, 'target-db-7'),
    heartbeat: { interval: 1 },
    postgres: { firstPort, lastPort: firstPort + 100 },
    // What a target allows by default is tested by test/end-to-end/bounds.test.ts.
    allow: {
      ...{ listen: ['*'], outbound: ['*'], exportDirectories: ['/'], exportHosts: ['*'] },
      // So that these are refused for what they are.
      users: ['nobody', 'nobody-at-all', 'nobody-of-that-name'],
    },
    ...fleet.target,
  }
}

const tlsFiles = (tls: string, name: string): object => ({
  ca: path.join(tls, 'ca.pem'),
  certificate: path.join(tls, `${name}.pem`),
  key: path.join(tls, `${name}.key`),
})

/** What an administrator does for an agent without root: its files and its directories belong to it. */
async function giveToTarget(
  { directory, mountRoot, cacheRoot }: FleetConfiguration,
  { uid, gid }: Account,
  tls: string,
): Promise<void> {
  await chmod(tls, 0o711)
  for (const file of [`${tls}/target-db-7.key`, configurationFile(directory, 'target-agent')])
    await chown(file, uid, gid)
  for (const made of [`${directory}/target-agent`, mountRoot, cacheRoot]) {
    await mkdir(made, { mode: 0o711 })
    await chown(made, uid, gid)
  }
}
