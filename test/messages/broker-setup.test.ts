/**
 * Users on a real broker, as "howdah broker setup" and the enrolment make them: what each needs works, and what each must
 * not do is refused by RabbitMQ itself, whether it logs in by password or by certificate. And the limits of the queues.
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type ChannelModel, type ConfirmChannel, connect, credentials, type Options } from 'amqplib'
import { expect } from 'chai'
import { pino } from 'pino'
import { type RunningAgent, runAgent } from '../../agents/runtime/agent.ts'
import { openJournal } from '../../agents/runtime/journal.ts'
import type { StepHandlers } from '../../agents/runtime/step-runner.ts'
import { makeCertificateRequest, makePrivateKey } from '../../config/certificate-request.ts'
import { openAgentRegistry } from '../../coordinator/agent-registry.ts'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { type Conductor, createConductor } from '../../coordinator/conductor.ts'
import { type Enrolments, openEnrolments } from '../../coordinator/enrolments.ts'
import { openAuthority } from '../../coordinator/fleet/authority/authority.ts'
import { ensureCertificates } from '../../coordinator/fleet/authority/certificates.ts'
import type { Identity } from '../../coordinator/fleet/authority/identity.ts'
import { createAgentUsers } from '../../coordinator/fleet/broker-users/agent-users.ts'
import { managementAt } from '../../coordinator/fleet/broker-users/management.ts'
import { createIntake } from '../../coordinator/intake.ts'
import { openSqliteStore } from '../../coordinator/store/sqlite.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { type BusRole, connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { connectOperator } from '../../messages/operator-connection.ts'
import { COORDINATOR_LEASE } from '../../messages/topology.ts'
import { stepResults } from '../coordinator/step-results.ts'
import { cleanEnvironment, LAUNCHER } from '../support/fleet-roles.ts'
import { poll } from '../support/poll.ts'
import { startTestBroker } from '../support/rabbitmq.ts'
import { properties } from './raw-client.ts'

const run = promisify(execFile)
const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const MOUNT = { kind: 'mount', name: 'backup-1' } as const
const TARGET = { kind: 'target', name: 'db-7' } as const
const USERS = [
  ...(['coordinator', 'mount-backup-1', 'target-db-7'] as const),
  ...(['client-ops', 'client-other', 'operator-alice'] as const),
] as const
type User = (typeof USERS)[number]

/** Nothing that is sent waits for the acknowledgement of what was sent before. */
const AT_ONCE = { noDelay: true }
const ACCESS_REFUSED = 403
const PRECONDITION_FAILED = 406

describe('the users of a broker that was set up', function () {
  this.timeout(60_000)
  let directory: string
  let broker: PrivateBroker
  const passwords = new Map<User, string>()
  /** By password; those by certificate take their place for the second half. */
  const connections = new Map<User, ChannelModel>()
  let authority: string
  let enrolments: Enrolments
  const buses: Bus[] = []
  const agents: RunningAgent[] = []
  let conductor: Conductor | undefined
  let store: Store | undefined

  const urlOf = (user: User): string => {
    const url = new URL(broker.url)
    url.username = `howdah-${user}`
    url.password = passwords.get(user) ?? ''
    url.pathname = '/howdah'
    return url.href
  }

  const setUp = (...more: string[]) =>
    run(LAUNCHER, ['broker', 'setup', '--passwords', join(directory, 'passwords'), ...more], {
      env: { ...cleanEnvironment(), HOWDAH_MANAGEMENT_URL: broker.managementUrl },
    })

  before(async function () {
    this.timeout(180_000)
    directory = await mkdtemp(join(tmpdir(), 'howdah-permissions-'))
    authority = join(directory, 'authority')
    const identities = [{ kind: 'broker', name: 'rabbit-1', addresses: ['127.0.0.1'] }] as const
    const [tls] = await ensureCertificates(authority, { identities })
    broker = await startTestBroker({
      ...{ directory: join(directory, 'broker'), logger, management: true },
      ...(tls && { tls }),
    })
    const flags = [
      '--agent',
      'mount:backup-1',
      '--agent',
      'target:db-7',
      '--client',
      'ops',
      '--client',
      'other',
      '--operator',
      'alice',
    ]
    const { stdout } = await setUp(...flags, '--apply')
    for (const user of USERS) {
      const file = join(directory, 'passwords', `howdah-${user}.password`)
      expect(stdout).to.include(`howdah-${user}  ${file}`)
      expect((await stat(file)).mode & 0o777).to.equal(0o600)
      const password = (await readFile(file, 'utf8')).trim()
      expect(stdout).not.to.include(password)
      passwords.set(user, password)
    }
    await startFleet()
    for (const user of USERS) connections.set(user, await connect(urlOf(user), AT_ONCE))
  })

  after(async () => {
    for (const agent of agents) await agent.close()
    await conductor?.close()
    await Promise.all([
      ...buses.map((bus) => bus.close()),
      ...[...connections.values()].map((one) => one.close()),
    ])
    await store?.close()
    await broker?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  async function bus(user: User, role: BusRole): Promise<Bus> {
    const made = await connectBus({ url: urlOf(user), appId: user, role, logger })
    buses.push(made)
    return made
  }

  /** A coordinator and both agents, whose steps do nothing, each as its own user. */
  async function startFleet(): Promise<void> {
    const coordinator = await bus('coordinator', 'coordinator')
    store = await openSqliteStore(join(directory, 'store.sqlite'))
    const common = { store, bus: coordinator, logger, now: Date.now }
    enrolments = await openEnrolments({
      ...{ store, authority: await openAuthority(authority), lifetimeMs: 3_600_000, logger, now: Date.now },
      users: createAgentUsers(async () => managementAt(new URL(broker.managementUrl ?? '')), 'howdah'),
    })
    const registry = await openAgentRegistry({
      ...common,
      ...{ lostAfterMs: 30_000, listeningSince: () => coordinator.connectedSince },
    })
    const retry = { attempts: 1, firstDelayMs: 10, maxDelayMs: 10, resume: { automatic: false, attempts: 1 } }
    conductor = createConductor({ ...common, registry, enrolments, retry, random: Math.random })
    const newSessionId = (instance: string): string => `${instance}-${randomUUID().slice(0, 6)}`
    const intake = createIntake({ ...common, registry, enrolments, conductor, newSessionId })
    await coordinator.consumeHeartbeats(conductor.onReport)
    await coordinator.consumeObservations(conductor.onReport)
    await coordinator.consumeReports(conductor.onReport)
    await coordinator.consumeCommands(intake)
    await coordinator.consumeQueries(intake)
    const undo = async () => ({ undone: [] })
    const { resolve, preflight, mount, recover } = stepResults
    const onTarget: StepHandlers = {
      preflight: { run: async () => preflight, undo },
      mount: { run: async () => mount, undo },
      recover: { run: async () => recover, undo },
    }
    await startAgent(MOUNT, { resolve: { run: async () => resolve, undo } })
    await startAgent(TARGET, onTarget)
  }

  async function startAgent(address: typeof MOUNT | typeof TARGET, steps: StepHandlers): Promise<void> {
    const user: User = `${address.kind}-${address.name}` as User
    agents.push(
      await runAgent({
        ...{ address, steps, logger, heartbeatMs: 1_000 },
        bus: await bus(user, 'agent'),
        journal: openJournal(join(directory, `${user}.sqlite`)),
        describe: () =>
          address.kind === 'mount' ? { repositories: [{ name: 'main', format: 'pgbackrest' }] } : {},
        queries: {
          ...(address.kind === 'mount' && {
            'repository.list': async () => ({ accepted: true, repositories: [] }) as const,
          }),
        },
      }),
    )
  }

  /** The AMQP code with which RabbitMQ closes the channel of an attempt, or `allowed`. */
  async function attempt(
    user: User,
    act: (channel: ConfirmChannel) => Promise<unknown>,
  ): Promise<number | string> {
    const channel = await (connections.get(user) as ChannelModel).createConfirmChannel()
    const closed = new Promise<number>((resolve) => {
      channel.once('error', (error: { code: number }) => resolve(error.code))
    })
    const outcome = await Promise.race([
      closed,
      act(channel).then(
        () => 'allowed',
        () => closed,
      ),
    ])
    if (outcome === 'allowed') await channel.close()
    return outcome
  }

  const publishing =
    (exchange: string, key: string, options: Options.Publish = {}) =>
    async (channel: ConfirmChannel): Promise<void> => {
      channel.publish(exchange, key, Buffer.from('{}'), options)
      await channel.waitForConfirms()
    }
  const consuming = (queue: string) => (channel: ConfirmChannel) => channel.consume(queue, () => undefined)
  const declaring = (queue: string) => (channel: ConfirmChannel) =>
    channel.assertQueue(queue, { durable: true })
  /** Binds a queue that the user may have, as far as that is allowed. */
  const binding = (prefix: string, exchange: string, pattern: string) => async (channel: ConfirmChannel) => {
    const queue = `${prefix}.${randomUUID()}`
    await channel.assertQueue(queue, { exclusive: true })
    await channel.bindQueue(queue, exchange, pattern)
  }

  describe('what each needs', () => {
    it('a publish is commanded, answered, run by both agents and followed by the client', async () => {
      const client = await bus('client-ops', 'client')
      const states: string[] = []
      const steps: string[] = []
      await client.watchEvents('session.#', (event) => {
        if (event.type === 'session.state') states.push(event.body.state)
        if (event.type === 'session.step-done') steps.push(event.body.step)
      })
      const body = { repository: 'main', instance: 'shop', target: 'db-7' }
      let reply = await client.request('instance.publish', body)
      while (!reply.accepted && reply.error.code !== 'invalid_message') {
        await sleep(50) // until both agents are known
        reply = await client.request('instance.publish', body)
      }
      while (!states.includes('published')) await sleep(20)
      expect(steps).to.deep.equal(['resolve', 'preflight', 'mount', 'recover'])
    })

    it('a mount agent replies to the coordinator, and the coordinator to a client with a queue of its own', async () => {
      const channel = await (connections.get('client-other') as ChannelModel).createConfirmChannel()
      const { queue } = await channel.assertQueue(`howdah.reply.${randomUUID()}`, { exclusive: true })
      const answer = new Promise<string>((resolve) => {
        void channel.consume(queue, (message) => message && resolve(message.content.toString()), {
          noAck: true,
        })
      })
      const sent = { ...properties('inventory.list'), replyTo: queue, userId: 'howdah-client-other' }
      channel.publish('howdah.commands', 'inventory.list', Buffer.from('{}'), sent)
      expect(JSON.parse(await answer)).to.deep.equal({ accepted: true, repositories: [] })
    })

    it('an operator reads the audit stream, and looks after dead letters', async () => {
      const { signal } = new AbortController()
      await using operator = await connectOperator({
        ...{ url: urlOf('operator-alice'), name: 'operator', version: '1.2.3', logger },
      })
      const onEntry = (): void => {}
      await operator.readAudit({ follow: false, signal, onEntry, onRemoved: onEntry })
      const admin = await connectAdmin()
      const channel = await admin.createConfirmChannel()
      const options = { type: 'step.run', messageId: 'm', headers: { 'howdah-version': 2 } }
      channel.publish('howdah.agents', 'target.db-7', Buffer.from('no JSON'), options)
      let letters = await operator.deadLetters.list(signal)
      while (letters.length === 0) letters = await operator.deadLetters.list(signal)
      expect(letters[0]).to.include({ messageId: 'm', reportedBy: 'howdah-target-db-7' })
      await operator.deadLetters.retry(letters[0]?.id ?? '', signal)
      // It breaks the contract still.
      do letters = await operator.deadLetters.list(signal)
      while (letters.length === 0)
      expect(letters[0]).to.include({ messageId: 'm', user: 'howdah-operator-alice' })
      expect(await operator.deadLetters.dropAll(signal)).to.equal(1)
      await admin.close()
    })

    it('an agent dead-letters what it cannot handle', async () => {
      const connection = await connectAdmin()
      const channel = await connection.createChannel()
      const options = { type: 'step.run', messageId: 'm', headers: { 'howdah-version': 2 } }
      channel.publish('howdah.agents', 'target.db-7', Buffer.from('no JSON'), options)
      for (;;) {
        const message = await channel.get('howdah.dead-letters', { noAck: true })
        if (message) {
          expect(message.properties.headers?.['howdah-queue']).to.equal('howdah.target.db-7')
          expect(message.properties.userId).to.equal('howdah-target-db-7')
          break
        }
        await sleep(20)
      }
      await connection.close()
    })
  })

  async function manage(method: 'GET' | 'PUT', path: string, body?: object): Promise<Response> {
    const url = new URL(broker.managementUrl ?? '')
    const credentials = Buffer.from(`${url.username}:${url.password}`).toString('base64')
    const response = await fetch(`${url.origin}/api/${path}`, {
      method,
      headers: { authorization: `Basic ${credentials}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    expect(response.ok).to.equal(true)
    return response
  }

  /** Lets the administrator of the node into the virtual host, and connects as that. */
  async function connectAdmin(): Promise<ChannelModel> {
    const url = new URL(broker.url)
    await manage('PUT', `permissions/howdah/${url.username}`, { configure: '.*', write: '.*', read: '.*' })
    url.pathname = '/howdah'
    return connect(url.href, AT_ONCE)
  }

  type Attempts = Record<string, (channel: ConfirmChannel) => Promise<unknown>>

  const COORDINATOR_QUEUES = ['', '.queries', '.events', '.heartbeats'].map(
    (name) => `howdah.coordinator${name}`,
  )
  const QUEUES = [...COORDINATOR_QUEUES, 'howdah.mount.backup-1', 'howdah.target.db-7']
  const OPERATORS_QUEUES = ['howdah.dead-letters', 'howdah.audit']

  const consumptionOf = (queues: readonly string[]): Attempts =>
    Object.fromEntries(queues.map((queue) => [`consume ${queue}`, consuming(queue)]))
  const changesTo = (queue: string): Attempts => ({
    [`declare ${queue}`]: declaring(queue),
    [`delete ${queue}`]: (channel) => channel.deleteQueue(queue),
    [`bind ${queue}`]: (channel) => channel.bindQueue(queue, 'howdah.events', '#'),
  })

  const OF_NOBODY_BUT_COORDINATORS: Attempts = {
    'publish to a queue through the default exchange': publishing('', 'howdah.target.db-7'),
    'write the audit stream': publishing('howdah.audit', 'instance.publish'),
    'publish to the exchange of unknown commands': publishing('howdah.commands.unknown', ''),
    'publish an event for clients': publishing('howdah.events', 'session.s1.state'),
    'declare a queue': declaring('orders'),
    'declare an exchange': (channel) => channel.assertExchange('howdah.more', 'topic'),
    'delete an exchange': (channel) => channel.deleteExchange('howdah.events'),
    'take the lease of the coordinators': (channel) =>
      channel.assertQueue(COORDINATOR_LEASE, { exclusive: true, durable: false }),
    'bind exchanges': (channel) => channel.bindExchange('howdah.dead', 'howdah.commands', '#'),
  }

  const OF_OPERATORS: Attempts = {
    'publish to agents': publishing('howdah.agents', 'target.db-7'),
    'purge the dead letters': (channel) => channel.purgeQueue('howdah.dead-letters'),
    'lock the dead letters': (channel) =>
      channel.assertQueue('howdah.dead-letters.lock', { exclusive: true }),
  }

  const operatorAttempts: Attempts = {
    ...OF_NOBODY_BUT_COORDINATORS,
    ...consumptionOf(QUEUES),
    ...changesTo('howdah.dead-letters'),
    ...changesTo('howdah.audit'),
    'reply in the name of an agent': publishing('howdah.replies', 'howdah.replies.x'),
    'write a dead letter': publishing('howdah.dead', ''),
    'watch what agents report': binding('howdah.watch.o', 'howdah.events', 'agent.#'),
  }

  const agentAttempts = (own: typeof MOUNT | typeof TARGET): Attempts => {
    const ownQueue = `howdah.${own.kind}.${own.name}`
    const another = own.kind === 'mount' ? 'target.db-7' : 'mount.backup-1'
    return {
      ...OF_NOBODY_BUT_COORDINATORS,
      ...OF_OPERATORS,
      ...consumptionOf([...QUEUES, ...OPERATORS_QUEUES].filter((queue) => queue !== ownQueue)),
      ...changesTo(ownQueue),
      ...changesTo(`howdah.${another}`),
      'send a command': publishing('howdah.commands', 'session.unpublish'),
      'report in the name of another agent': publishing('howdah.events', `agent.${another}.step-done`),
      'report in the name of an agent of another kind': publishing(
        'howdah.events',
        `agent.${own.kind === 'mount' ? 'target' : 'mount'}.${own.name}.online`,
      ),
      'report in the name of an agent whose name begins alike': publishing(
        'howdah.events',
        `agent.${own.kind}.${own.name}0.online`,
      ),
      'take the lock of another agent': (channel) =>
        channel.assertQueue(`howdah.${another}.lock`, { exclusive: true }),
    }
  }

  const clientAttempts: Attempts = {
    ...OF_NOBODY_BUT_COORDINATORS,
    ...OF_OPERATORS,
    ...consumptionOf([...QUEUES, ...OPERATORS_QUEUES]),
    ...changesTo('howdah.target.db-7'),
    ...changesTo('howdah.coordinator'),
    'report in the name of an agent': publishing('howdah.events', 'agent.target.db-7.online'),
    'reply in the name of an agent': publishing('howdah.replies', 'howdah.replies.x'),
    'write a dead letter': publishing('howdah.dead', ''),
    'watch what agents report': binding('howdah.watch.a', 'howdah.events', 'agent.#'),
    'watch everything': binding('howdah.watch.b', 'howdah.events', '#'),
    'watch everything by a pattern of stars': binding('howdah.watch.c', 'howdah.events', '*.*.*.step-done'),
    'watch the commands of others': binding('howdah.watch.d', 'howdah.commands', '#'),
    'watch what agents are told': binding('howdah.watch.e', 'howdah.agents', 'target.db-7'),
    'watch the replies of agents': binding('howdah.watch.f', 'howdah.replies', 'x'),
    'watch the dead letters': binding('howdah.watch.g', 'howdah.dead', ''),
    'take the lock of an agent': (channel) =>
      channel.assertQueue('howdah.target.db-7.lock', { exclusive: true }),
  }

  const coordinatorAttempts: Attempts = {
    'declare a queue that is not of Howdah': declaring('orders'),
    'consume a queue that is not of Howdah': consuming('orders'),
    'publish to an exchange that is not of Howdah': publishing('amq.topic', 'x'),
    'declare an exchange that is not of Howdah': (channel) => channel.assertExchange('orders', 'topic'),
  }

  const attemptsOf: Record<Exclude<User, 'client-other'>, Attempts> = {
    coordinator: coordinatorAttempts,
    'mount-backup-1': agentAttempts(MOUNT),
    'target-db-7': agentAttempts(TARGET),
    'client-ops': {
      ...clientAttempts,
      'enrol an agent': publishing('howdah.commands', 'agent.certify'),
      'invite an agent': publishing('howdah.commands', 'agent.invite'),
      'revoke an agent': publishing('howdah.commands', 'agent.revoke'),
    },
    'operator-alice': operatorAttempts,
  }

  /** Key and certificate of each: agents are enrolled, all others have what the authority issued. */
  async function certify(user: User): Promise<{ ca: string; cert: string; key: string }> {
    const [kind, ...rest] = user.split('-') as [Identity['kind'], ...string[]]
    const name = rest.join('-') || kind
    if (kind === 'mount' || kind === 'target') {
      const key = makePrivateKey()
      const csr = await makeCertificateRequest({ key, commonName: `howdah-${user}`, names: [] })
      const request = { csr, addresses: [], again: false }
      const { ca, certificate } = await enrolments.certify({ kind, name }, request)
      return { ca, cert: certificate, key }
    }
    const [paths] = await ensureCertificates(authority, { identities: [{ kind, name, addresses: [] }] })
    if (!paths) throw new Error('no certificate was issued')
    const [ca, cert, key] = await Promise.all(
      [paths.ca, paths.cert, paths.key].map((file) => readFile(file, 'utf8')),
    )
    return { ca: ca ?? '', cert: cert ?? '', key: key ?? '' }
  }

  describe('with passwords', () => attemptAll())

  describe('with certificates, the agents enrolled', () => {
    before(async () => {
      for (const user of USERS) {
        const material = await certify(user)
        const connection = await connect(`${broker.tlsUrl}/howdah`, {
          ...material,
          ...AT_ONCE,
          credentials: credentials.external(),
        })
        await connections.get(user)?.close()
        connections.set(user, connection)
      }
    })

    it('an enrolled agent has no password any more', async () => {
      const error = await connect(urlOf('target-db-7')).then(
        () => undefined,
        (failed: Error) => failed,
      )
      expect(error?.message).to.include('ACCESS-REFUSED')
    })

    attemptAll()
  })

  function attemptAll(): void {
    it('an operator may enrol and revoke agents', async () => {
      for (const type of ['agent.certify', 'agent.revoke', 'session.list']) {
        expect(await attempt('operator-alice', publishing('howdah.commands', type))).to.equal('allowed')
      }
    })

    for (const [user, attempts] of Object.entries(attemptsOf)) {
      describe(`${user} must not`, () => {
        for (const [name, act] of Object.entries(attempts)) {
          it(name, async () => {
            expect(await attempt(user as User, act)).to.equal(ACCESS_REFUSED)
          })
        }

        it('give itself another user', async () => {
          const [exchange, key] = ({
            coordinator: ['howdah.agents', 'x'],
            'mount-backup-1': ['howdah.events', 'agent.mount.backup-1.x'],
            'target-db-7': ['howdah.events', 'agent.target.db-7.x'],
          }[user] ?? ['howdah.commands', 'session.list']) as [string, string]
          const forged = publishing(exchange, key, { userId: 'howdah-client-other' })
          expect(await attempt(user as User, forged)).to.equal(PRECONDITION_FAILED)
          const honest = publishing(exchange, key, { userId: `howdah-${user}` })
          expect(await attempt(user as User, honest)).to.equal('allowed')
        })
      })
    }
  }

  it('no client reads the replies of another', async () => {
    const queue = `howdah.reply.${randomUUID()}`
    const owner = await (connections.get('client-other') as ChannelModel).createChannel()
    await owner.assertQueue(queue, { exclusive: true })
    // RESOURCE_LOCKED: it is exclusive to the connection of its owner.
    expect(await attempt('client-ops', consuming(queue))).to.equal(405)
  })

  it('keep their passwords and permissions when they are set up again', async () => {
    const known = ['--agent', 'mount:backup-1', '--agent', 'target:db-7', '--operator', 'alice']
    await setUp(...known, '--agent', 'target:db-8', '--apply')
    for (const user of USERS) {
      const connection = await connect(urlOf(user), AT_ONCE)
      await connection.close()
    }
  })

  describe('the limits of the queues', () => {
    /** Names of policies by queue. */
    async function policies(): Promise<Record<string, string | undefined>> {
      const response = await manage('GET', 'queues/howdah?columns=name,policy')
      const queues = (await response.json()) as { name: string; policy?: string }[]
      return Object.fromEntries(queues.map(({ name, policy }) => [name, policy]))
    }

    it('are policies, one for each queue', async () => {
      const expected = {
        'howdah.coordinator': 'howdah-work',
        'howdah.coordinator.queries': 'howdah-queries',
        'howdah.coordinator.events': 'howdah-work',
        'howdah.coordinator.heartbeats': 'howdah-heartbeats',
        'howdah.coordinator.observations': 'howdah-observations',
        'howdah.mount.backup-1': 'howdah-work',
        'howdah.target.db-7': 'howdah-work',
        'howdah.dead-letters': 'howdah-dead-letters',
      }
      let applied: Record<string, string | undefined> = {}
      await poll(
        async () => {
          applied = await policies()
          return Object.entries(expected).every(([queue, policy]) => applied[queue] === policy) || undefined
        },
        // The management API tells it when the statistics of a queue were collected.
        { deadlineMs: 30_000, failure: () => `the policies are ${JSON.stringify(applied)}` },
      )
    })

    it('can be changed while the queues exist, and a coordinator starts all the same', async () => {
      const policy = { pattern: '^howdah\\.target\\.db-9$', definition: { 'delivery-limit': 2 }, priority: 9 }
      await manage('PUT', 'policies/howdah/howdah-strict', { ...policy, 'apply-to': 'queues' })
      const next = await bus('coordinator', 'coordinator')
      await next.declareTopology()
      await next.enroll({ kind: 'target', name: 'db-9' })
    })

    it('dead-letter what is delivered too often without an outcome', async () => {
      const connection = await connectAdmin()
      const channel = await connection.createConfirmChannel()
      await channel.purgeQueue('howdah.dead-letters')
      channel.publish('howdah.agents', 'target.db-9', Buffer.from('poison'), { persistent: true })
      await channel.waitForConfirms()
      const died = async () => channel.get('howdah.dead-letters', { noAck: true })
      let dead = await died()
      let deliveries = 0
      while (!dead) {
        const message = await channel.get('howdah.target.db-9')
        if (message) {
          deliveries += 1
          channel.nack(message, false, true)
        }
        await sleep(10)
        dead = await died()
      }
      expect(deliveries).to.equal(3)
      expect(dead.content.toString()).to.equal('poison')
      expect(dead.properties.headers?.['x-first-death-reason']).to.equal('delivery_limit')
      await connection.close()
    })
  })

  it('are not set up by somebody who may not, and the password is not repeated', async () => {
    const url = new URL(broker.managementUrl ?? '')
    url.username = 'howdah-client-ops'
    url.password = passwords.get('client-ops') ?? ''
    const error = await setUp('--apply', '--management', url.href).catch((failed: unknown) => failed)
    const { code, stderr } = error as { code: number; stderr: string }
    expect(code).to.equal(1)
    expect(stderr).to.include('tag administrator').and.not.include(url.password)
  })

  it('are printed as definitions, without a password', async () => {
    const { stdout } = await setUp('--agent', 'target:db-7')
    const definitions = JSON.parse(stdout) as { users: { name: string }[]; policies: { name: string }[] }
    expect(definitions.users.map(({ name }) => name)).to.deep.equal([
      'howdah-coordinator',
      'howdah-target-db-7',
    ])
    expect(definitions.policies.map(({ name }) => name)).to.include('howdah-dead-letters')
    for (const password of passwords.values()) expect(stdout).not.to.include(password)
  })
})
