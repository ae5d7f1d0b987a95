/**
 * Owns a fleet with identities, without its agents: a broker with TLS, an authority, a coordinator that enrols, and the
 * files of whoever is certified. Nobody has a password but the user of the management API.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { makeCertificateRequest, makePrivateKey } from '../../config/certificate-request.ts'
import { brokerAccess } from '../../config/tls.ts'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import type { Identity } from '../../coordinator/fleet/authority/identity.ts'
import { type BusRole, connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import type { CommandReply } from '../../messages/definitions.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import { startCoordinator } from './coordinator-process.ts'
import { cleanEnvironment, LAUNCHER } from './fleet-roles.ts'
import { startTestBroker } from './rabbitmq.ts'

const run = promisify(execFile)
const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

export interface EnrolledFleet {
  readonly directory: string
  readonly broker: PrivateBroker
  /** Of the virtual host, without a user. */
  readonly url: string
  /** The operator alice. */
  readonly operator: Bus
  /** A certificate that the authority issues by hand. */
  issue(identity: Pick<Identity, 'kind' | 'name'>): Promise<CertificatePaths>
  /** A new key of an agent, in its files, and the request for it. */
  request(agent: AgentAddress): Promise<{ paths: CertificatePaths; csr: string }>
  /** As "howdah agent install" does. @throws Error when it is refused */
  enrol(agent: AgentAddress, options?: { again?: true }): Promise<CertificatePaths>
  /** Sends the command of the operator, and waits for the answer. */
  certify(agent: AgentAddress, csr: string, more?: object): Promise<CommandReply<'agent.certify'>>
  /** Connects as whom the files name; closed with the fleet. */
  connect(paths: CertificatePaths, role: BusRole, waitMs?: number): Promise<Bus>
  /** File with the password of the management API. */
  readonly managementPassword: string
  /** Kills the coordinator, and starts it again. `broker`: more of its access to the broker. */
  restartCoordinator(broker?: object): Promise<void>
  /** As an operator can do in RabbitMQ's console. */
  closeConnections(users: readonly string[]): Promise<void>
  /** Kills the coordinator. */
  stopCoordinator(): Promise<void>
  remove(): Promise<void>
}

/** `lifetimeMs`: for which the certificate of an agent is valid. */
export async function startEnrolledFleet({ lifetimeMs = 90 * 86_400_000 } = {}): Promise<EnrolledFleet> {
  const directory = await mkdtemp(join(tmpdir(), 'howdah-enrolled-'))
  const authority = join(directory, 'authority')
  const undo: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })]
  const remove = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const byHand = async (identity: Identity): Promise<CertificatePaths> => {
      const [paths] = await ensureCertificates(authority, { identities: [identity] })
      if (!paths) throw new Error('no certificate was issued')
      return paths
    }
    const issue = ({ kind, name }: Pick<Identity, 'kind' | 'name'>) => byHand({ kind, name, addresses: [] })
    const server = await byHand({ kind: 'broker', name: 'rabbit-1', addresses: ['127.0.0.1'] })
    const broker = await startTestBroker({
      ...{ directory: join(directory, 'broker'), logger, management: true, tls: server },
    })
    undo.push(() => broker.stop())
    const url = `${broker.tlsUrl}/howdah`
    const passwordFile = join(directory, 'management.password')
    const setUp = ['broker', 'setup', '--operator', 'alice', '--client', 'ops', '--apply']
    await run(LAUNCHER, [...setUp, '--management-password', passwordFile], {
      env: { ...cleanEnvironment(), HOWDAH_MANAGEMENT_URL: broker.managementUrl },
    })

    const management = new URL(broker.managementUrl ?? '')
    management.username = 'howdah-management'
    management.password = ''
    const own = await issue({ kind: 'coordinator', name: 'coordinator' })
    const startIt = (more: object) =>
      startCoordinator(directory, 'coordinator', {
        broker: {
          ...{ urls: [url], ca: own.ca, certificate: own.cert, key: own.key },
          management: management.href,
          managementPasswordFile: passwordFile,
          ...more,
        },
        store: { path: join(directory, 'store.sqlite') },
        authority: { directory: authority, days: lifetimeMs / 86_400_000 },
      })
    let coordinator = await startIt({})
    undo.push(() => coordinator.kill())

    async function connect(paths: CertificatePaths, role: BusRole, waitMs = 20_000): Promise<Bus> {
      const files = { ca: paths.ca, certificate: paths.cert, key: paths.key }
      const bus = await connectBus({
        ...brokerAccess({ urls: [url], ...files }),
        appId: 'test',
        role,
        logger,
        waitMs,
      })
      undo.push(() => bus.close())
      return bus
    }
    const operator = await connect(await issue({ kind: 'operator', name: 'alice' }), 'client')

    const fleet: EnrolledFleet = {
      ...{ directory, broker, url, operator, issue, connect, remove },
      managementPassword: passwordFile,
      async request({ kind, name }) {
        const base = await mkdtemp(join(directory, `${name}-`))
        const paths = {
          ca: join(base, 'ca.pem'),
          cert: join(base, `${kind}.pem`),
          key: join(base, `${kind}.key`),
        }
        const key = makePrivateKey()
        await writeFile(paths.key, key, { mode: 0o600 })
        const commonName = `howdah-${kind}-${name}`
        return { paths, csr: await makeCertificateRequest({ key, commonName, names: [] }) }
      },
      certify: (agent, csr, more = {}) =>
        operator.request('agent.certify', { kind: agent.kind, name: agent.name, csr, ...more }),
      async enrol(agent, more = {}) {
        const { paths, csr } = await fleet.request(agent)
        const addresses = agent.kind === 'mount' ? { addresses: ['127.0.0.1'] } : {}
        const reply = await fleet.certify(agent, csr, { ...addresses, ...more })
        if (!reply.accepted) throw new Error(reply.error.message)
        await writeFile(paths.ca, reply.ca)
        await writeFile(paths.cert, reply.certificate)
        return paths
      },
      async closeConnections(users) {
        const console = new URL(broker.managementUrl ?? '')
        const authorization = `Basic ${Buffer.from(`${console.username}:${console.password}`).toString('base64')}`
        const api = (path: string, method = 'GET') =>
          fetch(`${console.origin}/api/connections${path}`, { method, headers: { authorization } })
        const all = (await (await api('')).json()) as { name: string; user: string }[]
        for (const { name } of all.filter(({ user }) => users.includes(user))) {
          await api(`/${encodeURIComponent(name)}`, 'DELETE')
        }
      },
      stopCoordinator: () => coordinator.kill(),
      async restartCoordinator(more = {}) {
        await coordinator.kill()
        coordinator = await startIt(more)
      },
    }
    return fleet
  } catch (error) {
    const log = await readFile(join(directory, 'broker', 'log', 'broker.log'), 'utf8').catch(() => '')
    await remove()
    throw new Error(`the fleet did not start: ${(error as Error).message}\n${log.slice(-2000)}`, {
      cause: error,
    })
  }
}
