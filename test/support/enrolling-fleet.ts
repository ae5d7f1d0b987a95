/**
 * Owns a broker with TLS, where nobody has a password, and a coordinator that enrols agents at it: the hooks of test files
 * in which hosts come into a fleet. The operator is `ops`; `backup` is a client.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { brokerAccess } from '../../config/tls.ts'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { type CertificatePaths, ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import { brokerDefinitions } from '../../coordinator/fleet/broker-users/definitions.ts'
import {
  importDefinitions,
  type Management,
  managementAt,
} from '../../coordinator/fleet/broker-users/management.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import { type CoordinatorProcess, startCoordinator } from './coordinator-process.ts'
import type { CommandOutcome } from './fleet-client.ts'
import { cleanEnvironment, LAUNCHER } from './fleet-roles.ts'
import { poll } from './poll.ts'
import { startTestBroker } from './rabbitmq.ts'

/** What `howdah agent invite --json` prints. */
export interface Invited {
  readonly token: string
  readonly invitation: string
  readonly fingerprint: string
}

export interface EnrollingFleet {
  readonly directory: string
  /** The authority, and the certificates that it signed beforehand. */
  readonly tls: string
  readonly operator: CertificatePaths
  readonly client: CertificatePaths
  readonly coordinator: CoordinatorProcess
  /** Kills the coordinator, and starts it again. */
  restartCoordinator(): Promise<void>
  /** The environment in which `howdah` is that client of the broker. */
  environment(who: CertificatePaths): Record<string, string | undefined>
  howdah(who: CertificatePaths, ...args: string[]): Promise<CommandOutcome>
  /** By the operator. */
  invite(...args: string[]): Promise<Invited>
  /** By the operator, with a message. */
  revoke(agent: AgentAddress): Promise<void>
  /** Names of the broker's users. */
  users(): Promise<string[]>
  untilOnline(agent: string): Promise<void>
}

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

/**
 * Makes it before the tests of the surrounding `describe`, and removes it after them.
 * @param address that the broker listens on, asked for when it starts
 * @param heartbeat of the coordinator's configuration
 */
export function useEnrollingFleet({
  address = () => '127.0.0.1',
  heartbeat = { interval: 1, lostAfter: 8 },
}: {
  readonly address?: () => string
  readonly heartbeat?: object
} = {}): EnrollingFleet {
  let directory = ''
  let broker: PrivateBroker | undefined
  let coordinator: CoordinatorProcess | undefined
  let certificates: CertificatePaths[] = []

  const tls = () => path.join(directory, 'tls')
  const management = (): Management => managementAt(new URL(broker?.managementUrl ?? ''))

  async function start(): Promise<void> {
    const [, own] = certificates
    const { url, user } = management()
    const config = {
      broker: {
        url: broker?.tlsUrl,
        ...{ ca: path.join(tls(), 'ca.pem'), certificate: own?.cert, key: own?.key },
        management: url.replace('://', `://${user}@`),
        managementPasswordFile: path.join(directory, 'management.password'),
      },
      authority: { directory: tls() },
      store: { path: path.join(directory, 'store.sqlite') },
      heartbeat,
      log: { level: 'debug' },
    }
    coordinator = await startCoordinator(directory, 'coordinator', config)
  }

  before(async function () {
    this.timeout(180_000)
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-enrolling-'))
    certificates = await ensureCertificates(tls(), {
      identities: [
        { kind: 'broker', name: 'rabbit-1', addresses: [address()] },
        { kind: 'coordinator', name: 'coordinator', addresses: [] },
        { kind: 'operator', name: 'ops', addresses: [] },
        { kind: 'client', name: 'backup', addresses: [] },
      ],
    })
    const [server] = certificates
    broker = await startTestBroker({
      ...{ directory: path.join(directory, 'broker'), address: address(), logger, management: true },
      ...(server && { tls: server }),
    })
    await writeFile(path.join(directory, 'management.password'), management().password, { mode: 0o600 })
    const request = { vhost: '/', agents: [], clients: ['backup'], operators: ['ops'] }
    await importDefinitions(management(), brokerDefinitions(request, { users: new Map() }))
    await start()
  })

  after(async () => {
    await coordinator?.kill()
    await broker?.stop()
    if (directory !== '') await rm(directory, { recursive: true, force: true })
  })

  const fleet: EnrollingFleet = {
    get directory() {
      return directory
    },
    get tls() {
      return tls()
    },
    get operator() {
      return certificates[2] as CertificatePaths
    },
    get client() {
      return certificates[3] as CertificatePaths
    },
    get coordinator() {
      return coordinator as CoordinatorProcess
    },
    async restartCoordinator() {
      await coordinator?.kill()
      await start()
    },
    environment: ({ cert, key }) => ({
      HOWDAH_BROKER_URL: broker?.tlsUrl,
      HOWDAH_BROKER_CA: path.join(tls(), 'ca.pem'),
      HOWDAH_BROKER_CERTIFICATE: cert,
      HOWDAH_BROKER_KEY: key,
    }),
    async howdah(who, ...args) {
      const child = spawn(LAUNCHER, args, {
        cwd: '/',
        env: { ...cleanEnvironment(), ...fleet.environment(who) },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const texts = { stdout: '', stderr: '' }
      for (const name of ['stdout', 'stderr'] as const)
        child[name].setEncoding('utf8').on('data', (text: string) => {
          texts[name] += text
        })
      const [status] = (await once(child, 'close')) as [number | null]
      return { status: status ?? -1, ...texts }
    },
    async invite(...args) {
      const invite = ['agent', 'invite', ...args, '--json']
      const { status, stdout, stderr } = await fleet.howdah(fleet.operator, ...invite)
      expect(status, stderr).to.equal(0)
      return JSON.parse(stdout) as Invited
    },
    async revoke(agent) {
      const { cert, key } = fleet.operator
      const files = { ca: path.join(tls(), 'ca.pem'), certificate: cert, key }
      const access = brokerAccess({ urls: [broker?.tlsUrl ?? ''], ...files })
      const bus = await connectBus({ ...access, appId: 'test', role: 'client', logger })
      try {
        expect(await bus.request('agent.revoke', agent)).to.include({ accepted: true })
      } finally {
        await bus.close()
      }
    },
    async users() {
      const { url, user, password } = management()
      const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
      const response = await fetch(new URL('api/users', url), { headers: { authorization } })
      return ((await response.json()) as { name: string }[]).map(({ name }) => name)
    },
    async untilOnline(agent) {
      await poll(
        async () => {
          const { stdout } = await fleet.howdah(fleet.operator, 'agents', '--json')
          const { agents } = JSON.parse(stdout) as { agents: { name: string; online: boolean }[] }
          return agents.some(({ name, online }) => name === agent && online) ? true : undefined
        },
        { deadlineMs: 30_000, everyMs: 300, failure: () => `${agent} is not online` },
      )
    },
  }
  return fleet
}
