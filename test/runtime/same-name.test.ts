import { mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { type Logger, pino } from 'pino'
import { type RunningAgent, runAgent } from '../../agents/runtime/agent.ts'
import { openJournal } from '../../agents/runtime/journal.ts'
import { type AgentRegistry, openAgentRegistry } from '../../coordinator/agent-registry.ts'
import { type AgentReportsOptions, createAgentReports } from '../../coordinator/conductor/agent-reports.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import type { HowdahError } from '../../messages/errors.ts'
import { failure } from '../messages/failure.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'

const HEARTBEAT_MS = 100
const silent = pino({ level: 'silent' })

describe('an agent', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let directory: string
  let coordinator: Bus | undefined
  const buses: Bus[] = []
  const agents: RunningAgent[] = []

  before(async function () {
    this.timeout(120_000)
    await (await testVhost()).remove()
  })

  beforeEach(async () => {
    vhost = await testVhost()
    directory = await mkdtemp(join(tmpdir(), 'howdah-same-name-'))
  })

  afterEach(async () => {
    for (const agent of agents.splice(0)) await agent.close()
    await Promise.all(buses.splice(0).map((bus) => bus.close()))
    await vhost.remove()
    await rm(directory, { recursive: true })
  })

  async function connect(role: 'agent' | 'coordinator', logger = silent): Promise<Bus> {
    const bus = await connectBus({ url: vhost.url, appId: role, role, logger })
    buses.push(bus)
    return bus
  }

  /** Takes heartbeats and declares queues, as a coordinator does. */
  async function startCoordinator(): Promise<AgentRegistry> {
    const bus = await connect('coordinator')
    coordinator = bus
    const registry = await openAgentRegistry({
      store: { agents: async () => [], saveAgent: async () => undefined } as unknown as Store,
      ...{ lostAfterMs: 30_000, listeningSince: () => bus.connectedSince, now: Date.now },
    })
    // Of reports on sessions there are none here.
    const options: Partial<AgentReportsOptions> = { bus, registry, now: Date.now }
    const onReport = createAgentReports(options as AgentReportsOptions)
    await bus.consumeHeartbeats(onReport)
    return registry
  }

  async function startAgent(name: string, logger: Logger = silent): Promise<void> {
    const agent = await runAgent({
      address: { kind: 'target', name },
      bus: await connect('agent', logger),
      journal: openJournal(join(directory, `${agents.length}.sqlite`)),
      ...{ steps: {}, describe: () => ({}), heartbeatMs: HEARTBEAT_MS, logger },
      queries: { 'caches.verify': async () => ({ accepted: true, items: [] }) },
    })
    agents.push(agent)
  }

  it('that starts before any coordinator waits for its queue, says so, and is online once there is one', async () => {
    const lines: string[] = []
    const destination = new Writable({
      write(chunk, _, done) {
        lines.push(String(chunk))
        done()
      },
    })
    const starting = startAgent('early', pino({ level: 'warn' }, destination))
    while (!lines.some((line) => line.includes('there is no queue howdah.target.early yet'))) await sleep(10)
    expect(lines.join('')).to.include('howdah broker setup --agent target:early')
    const registry = await startCoordinator()
    await starting
    while (registry.list().length === 0) await sleep(10)
    expect(registry.list()[0]).to.include({ kind: 'target', name: 'early', online: true })
  })

  it('of a name that another one has is refused, by the name of its host', async () => {
    const registry = await startCoordinator()
    await startAgent('db-7')
    while (registry.list().length === 0) await sleep(10)
    const error = await failure(startAgent('db-7'))
    expect(error.code).to.equal('configuration')
    expect(error.message).to.match(/^the name "db-7" of this target agent belongs to another process on/)
    expect(error.message).to.include(` on ${hostname()},`)
    // The first goes on alone.
    const { instance } = registry.list()[0] ?? {}
    await sleep(5 * HEARTBEAT_MS)
    expect(registry.list().map((agent) => agent.instance)).to.deep.equal([instance])
  })

  it('takes its name again from a process of it that has ended', async () => {
    const registry = await startCoordinator()
    await startAgent('db-7')
    await agents.pop()?.close()
    await buses.pop()?.close()
    await startAgent('db-7')
    while (!registry.list()[0]?.online) await sleep(10)
  })

  it('gets its queue back when somebody deleted it', async () => {
    await startCoordinator()
    await startAgent('db-7')
    await coordinator?.disenroll({ kind: 'target', name: 'db-7' })
    for (;;) {
      const asked = coordinator?.requestAgent(
        ...([
          { kind: 'target', name: 'db-7' },
          'caches.verify',
          { timeLimit: 1 },
          { timeoutMs: 1000 },
        ] as const),
      )
      const reply = await asked?.catch((error: HowdahError) => error.code)
      if (typeof reply === 'object') break
      expect(reply).to.be.oneOf(['unroutable', 'timeout'])
      await sleep(20)
    }
  })
})
