/**
 * Makes this machine the centre of a fleet: the authority, the identities of broker, coordinator and operators, the
 * configuration of RabbitMQ, of the coordinator and of the command line. Safe to repeat: what exists is kept, certificates
 * that expire soon are issued again. Starts and restarts nothing.
 */
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import { MANAGEMENT_USER } from '../../../messages/permissions.ts'
import { type CertificatePaths, ensureCertificates } from '../authority/certificates.ts'
import { brokerDefinitions } from '../broker-users/definitions.ts'
import { keepPassword } from '../broker-users/passwords.ts'
import { makeConfiguration } from '../host/configuration-file.ts'
import type { HostPaths } from '../host/host-paths.ts'
import { ensureDirectory, ensureFile, type FileState, type Owner, readIfThere } from '../host/managed-file.ts'
import { type HostReport, note } from '../host/report.ts'
import { ensureSystemUser, findAccount, findSystemUser } from '../host/system-user.ts'
import {
  type BrokerFiles,
  brokerConfiguration,
  definitionsAgree,
  enabledPlugins,
  MANAGEMENT_PORT,
  TLS_PORT,
} from './broker-files.ts'

export interface FleetRequest {
  /** Host names and IP addresses by which agents reach this machine. The first is in the URL of the broker. */
  readonly addresses: readonly [string, ...string[]]
  /** The operator whose certificate the command line uses here. */
  readonly operator: string
  /** Is told when the authority that is there is close to its end. */
  readonly warn?: (text: string) => void
}

const VHOST = 'howdah'
const BROKER_USER = 'rabbitmq'
const ROOT: Owner = { uid: 0, gid: 0 }

/**
 * @throws HowdahError `configuration` when there is no RabbitMQ here, or a file cannot be understood
 */
export async function initFleet(host: HostPaths, request: FleetRequest): Promise<HostReport> {
  const report: HostReport = { changed: [], kept: [] }
  const brokerOwner = await requireBroker(host.broker)
  note(report, 'user howdah', await ensureSystemUser(host.state))
  const owner = (await findSystemUser()) ?? ROOT
  const put = async (file: string, text: string, state: FileState): Promise<void> =>
    note(report, file, await ensureFile(file, text, state))
  const make = async (directory: string, state: FileState): Promise<void> =>
    note(report, directory, await ensureDirectory(directory, state))

  await make(host.configuration, { mode: 0o755, owner: ROOT })
  // As "howdah agent setup" makes it: an agent replaces its own certificate, and nobody else's.
  await make(host.tls, { mode: 0o1771, owner: { uid: 0, gid: owner.gid } })
  await make(path.join(host.state, 'coordinator'), { mode: 0o700, owner })
  const authority = path.join(host.configuration, 'authority')
  const identities = await issue(authority, request, owner, report)
  await installBroker(host, identities.broker, { broker: brokerOwner, coordinator: owner }, request, report)

  const url = `amqps://${hostOfUrl(request.addresses[0])}:${TLS_PORT}/${VHOST}`
  const { coordinator, operator } = identities
  await makeConfiguration(
    path.join(host.configuration, 'coordinator.json'),
    { mode: 0o640, owner: { uid: 0, gid: owner.gid } },
    report,
    () => ({
      broker: {
        url,
        ...{ ca: coordinator.ca, certificate: coordinator.cert, key: coordinator.key },
        management: `http://${MANAGEMENT_USER}@127.0.0.1:${MANAGEMENT_PORT}`,
        managementPasswordFile: managementPassword(host),
      },
      authority: { directory: authority },
    }),
  )

  const mine = path.join(host.tls, `operator-${request.operator}`)
  const ca = path.join(host.tls, 'ca.pem')
  await put(ca, await readFile(operator.ca, 'utf8'), { mode: 0o644, owner: ROOT })
  await put(`${mine}.key`, await readFile(operator.key, 'utf8'), { mode: 0o600, owner: ROOT })
  await put(`${mine}.pem`, await readFile(operator.cert, 'utf8'), { mode: 0o644, owner: ROOT })
  await makeConfiguration(
    path.join(host.configuration, 'client.json'),
    { mode: 0o644, owner: ROOT },
    report,
    () => ({ broker: { url, ca, certificate: `${mine}.pem`, key: `${mine}.key` } }),
  )
  return report
}

const managementPassword = (host: HostPaths): string =>
  path.join(host.configuration, `${MANAGEMENT_USER}.password`)

/** IPv6 addresses stand in brackets in a URL. */
function hostOfUrl(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}

/** @returns who RabbitMQ runs as */
async function requireBroker(directory: string): Promise<Owner> {
  const owner = await findAccount(BROKER_USER)
  const files = await readdir(directory).catch(() => undefined)
  if (owner !== undefined && files !== undefined) return owner
  throw new HowdahError(
    'configuration',
    `there is no RabbitMQ on this machine (no ${owner === undefined ? `user ${BROKER_USER}` : directory}): install it first ("apt install rabbitmq-server"; for dnf from the repository of RabbitMQ). For a broker elsewhere, docs/fleet.md says what it needs.`,
  )
}

interface Identities {
  readonly broker: CertificatePaths
  readonly coordinator: CertificatePaths
  readonly operator: CertificatePaths
}

/** In the directory of the authority, which the coordinator reads. */
async function issue(
  directory: string,
  { addresses, operator, warn }: FleetRequest,
  owner: Owner,
  report: HostReport,
): Promise<Identities> {
  await ensureDirectory(directory, { mode: 0o700, owner })
  const before = await contentsOf(directory)
  const made = await ensureCertificates(directory, {
    identities: [
      { kind: 'broker', name: addresses[0], addresses },
      { kind: 'coordinator', name: 'coordinator', addresses: [] },
      { kind: 'operator', name: operator, addresses: [] },
    ],
    ...(warn && { warn }),
  })
  for (const [name, text] of await contentsOf(directory)) {
    const file = path.join(directory, name)
    await ensureFile(file, text, { mode: name.endsWith('.key') ? 0o600 : 0o644, owner })
    note(report, file, before.get(name) !== text)
  }
  const [broker, coordinator, own] = made
  if (!broker || !coordinator || !own) throw new Error('a certificate was not made')
  return { broker, coordinator, operator: own }
}

async function contentsOf(directory: string): Promise<Map<string, string>> {
  const names = (await readdir(directory)).filter((name) => /\.(pem|key)$/.test(name)).sort()
  const texts = await Promise.all(names.map((name) => readFile(path.join(directory, name), 'utf8')))
  return new Map(names.map((name, index) => [name, texts[index] ?? '']))
}

async function installBroker(
  host: HostPaths,
  { ca, cert, key }: CertificatePaths,
  owners: { readonly broker: Owner; readonly coordinator: Owner },
  { operator }: FleetRequest,
  report: HostReport,
): Promise<void> {
  const directory = host.broker
  // RabbitMQ reads, and does not change: root's, with the group of RabbitMQ.
  const readable: Owner = { uid: 0, gid: owners.broker.gid }
  const own = path.join(directory, 'howdah')
  note(report, own, await ensureDirectory(own, { mode: 0o750, owner: readable }))
  const files: BrokerFiles = {
    ca: path.join(own, 'ca.pem'),
    certificate: path.join(own, 'broker.pem'),
    key: path.join(own, 'broker.key'),
    definitions: path.join(own, 'definitions.json'),
  }
  const put = async (file: string, text: string, mode = 0o640): Promise<void> =>
    note(report, file, await ensureFile(file, text, { mode, owner: readable }))
  await put(files.ca, await readFile(ca, 'utf8'))
  await put(files.key, await readFile(key, 'utf8'))
  await put(files.certificate, await readFile(cert, 'utf8'))

  const passwordFile = managementPassword(host)
  const isNew = (await readIfThere(passwordFile)) === undefined
  const password = await keepPassword(passwordFile)
  await ensureFile(passwordFile, `${password}\n`, { mode: 0o600, owner: owners.coordinator })
  note(report, passwordFile, isNew)
  const definitions = `${JSON.stringify(
    brokerDefinitions(
      { vhost: VHOST, agents: [], clients: [], operators: [operator] },
      { users: new Map(), management: password },
    ),
    undefined,
    2,
  )}\n`
  const before = await readIfThere(files.definitions)
  if (isNew || !definitionsAgree(before, definitions)) await put(files.definitions, definitions)
  else note(report, files.definitions, false)

  const plugins = path.join(directory, 'enabled_plugins')
  const enabled = enabledPlugins(await readIfThere(plugins))
  if (enabled === undefined)
    throw new HowdahError('configuration', `${plugins} is not a list of plugins; mend it, and repeat this`)
  await put(plugins, enabled, 0o644)
  const settings = path.join(directory, 'conf.d')
  note(report, settings, await ensureDirectory(settings, { mode: 0o755, owner: ROOT }))
  await put(path.join(settings, '50-howdah.conf'), brokerConfiguration(files), 0o644)
}
