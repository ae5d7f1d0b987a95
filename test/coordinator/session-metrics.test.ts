/** What the coordinator measures of its sessions, with a real store and scripted agents. */
import { expect } from 'chai'
import { Registry } from 'prom-client'
import { createMonitor } from '../../config/monitoring/monitor.ts'
import { checkCoordinator } from '../../coordinator/metrics/coordinator-checks.ts'
import { coordinatorMetrics } from '../../coordinator/metrics/coordinator-metrics.ts'
import { newSession } from '../../coordinator/session.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { agentView, request } from './store-values.ts'
import { type OpenStore, onBothStores } from './stores.ts'
import {
  openTestCoordinator,
  publishBody,
  type TestClock,
  type TestCoordinator,
  until,
} from './test-coordinator.ts'

describe('the metrics of the coordinator', () => onBothStores(metricsTests))

function metricsTests(openStore: OpenStore): void {
  let store: Store
  let clock: TestClock
  let coordinator: TestCoordinator
  let registry: Registry

  beforeEach(async () => {
    store = await openStore()
    clock = { now: Date.parse('2026-11-30T06:00:00Z') }
    registry = new Registry()
    coordinator = await openTestCoordinator(store, clock, registry)
  })

  afterEach(async () => {
    await coordinator.close()
    await store.close()
  })

  const value = async (line: string): Promise<number | undefined> => {
    const found = (await registry.metrics()).split('\n').find((one) => one.startsWith(`${line} `))
    return found === undefined ? undefined : Number(found.slice(line.length + 1))
  }

  function describeAll(leader: { readonly since: number | undefined } | undefined): void {
    const { bus, conductor, registry: agents } = coordinator
    coordinatorMetrics({
      ...{ registry, store, bus, agents, conductor },
      leadership: () => leader,
      now: () => clock.now,
    })
  }

  it('time each step and the whole publish, from the command until it is usable', async () => {
    await coordinator.agentsOnline()
    await coordinator.command('instance.publish', publishBody)
    for (const seconds of [1, 2, 4, 8]) {
      clock.now += seconds * 1000
      await coordinator.finishStep()
    }
    expect(await value('howdah_publish_seconds_sum')).to.equal(15)
    expect(await value('howdah_publish_seconds_count')).to.equal(1)
    const mount = 'step="mount",direction="run",outcome="done"'
    expect(await value(`howdah_step_seconds_sum{${mount}}`)).to.equal(4)
    expect(await value('howdah_session_states_total{state="published"}')).to.equal(1)
  })

  it('count failed steps apart, and show their retries', async () => {
    describeAll(undefined)
    await coordinator.agentsOnline()
    await coordinator.command('instance.publish', publishBody)
    await coordinator.failStep('operation_failed')
    const failed = 'step="resolve",direction="run",outcome="failed"'
    expect(await value(`howdah_step_seconds_count{${failed}}`)).to.equal(1)
    expect(await value('howdah_step_retries_scheduled')).to.equal(1)
  })

  it('show the sessions that are on a machine by state, and the agents by condition', async () => {
    describeAll({ since: clock.now })
    await coordinator.publish()
    await coordinator.command('instance.publish', publishBody)
    expect(await value('howdah_sessions{state="published"}')).to.equal(1)
    expect(await value('howdah_sessions{state="validating"}')).to.equal(1)
    expect(await value('howdah_sessions{state="disrupted"}')).to.equal(0)
    expect(await value('howdah_agents{kind="target",condition="online"}')).to.equal(1)
    clock.now += 60_000
    expect(await value('howdah_agents{kind="target",condition="online"}')).to.equal(0)
    expect(await value('howdah_agents{kind="target",condition="offline"}')).to.equal(1)
    expect(await value('howdah_coordinator_active')).to.equal(1)
  })

  it('show announcements that RabbitMQ does not have yet, and since when', async () => {
    describeAll(undefined)
    await coordinator.agentsOnline()
    coordinator.bus.failure = new Error('no broker') as never
    await coordinator.command('instance.publish', publishBody)
    expect(await value('howdah_outbox_announcements')).to.equal(1)
    coordinator.bus.failure = undefined
    await until('they are published', async () => (await value('howdah_outbox_announcements')) === 0)
    expect(await value('howdah_outbox_oldest_seconds')).to.equal(0)
  })

  it('leave out what a store that is away would say, and nothing else', async () => {
    describeAll(undefined)
    await store.close()
    expect(await value('howdah_sessions{state="published"}')).to.equal(undefined)
    expect(await value('howdah_coordinator_active')).to.equal(0)
    store = await openStore()
  })

  it('are as many with 1,000 sessions and 1,000 agents as with one, and take a moment', async function () {
    this.timeout(60_000)
    describeAll({ since: clock.now })
    await coordinator.publish()
    const lines = async () => (await registry.metrics()).split('\n').length
    const before = await lines()
    const adding = Array.from({ length: 1000 }, async (_, number) => {
      const session = newSession(`many-${number}`, request, 'backup-1', new Date(clock.now).toISOString())
      session.state = 'published'
      await store.addSession(session, { history: [] })
      const kind = number % 2 === 0 ? ('target' as const) : ('mount' as const)
      const certificate = { user: `u-${number}`, notAfter: new Date(clock.now + number * 1000).toISOString() }
      const agent = { ...agentView, name: `many-${number}`, kind, certificate }
      await coordinator.registry.online(agent)
    })
    await Promise.all(adding)
    const begun = performance.now()
    const after = await lines()
    const milliseconds = performance.now() - begun
    // The earliest certificate of each kind is one line more.
    expect(after).to.equal(before + 2)
    expect(milliseconds).to.be.lessThan(1_000)
    expect(await value('howdah_sessions{state="published"}')).to.equal(1001)
    const earliest = await value('howdah_agent_certificate_expiry_timestamp_seconds{kind="mount"}')
    expect(earliest).to.equal(clock.now / 1000 + 1)
  })

  it('say what keeps the coordinator from being ready', async () => {
    const monitor = createMonitor()
    const leadership = { isConsuming: undefined as boolean | undefined }
    const bus = { connectedSince: 1 as number | undefined }
    checkCoordinator(monitor, { bus, store, leadership: () => leadership })
    monitor.readiness.started()
    expect(await monitor.readiness.problems()).to.deep.equal([])
    bus.connectedSince = undefined
    leadership.isConsuming = false
    const parts = (await monitor.readiness.problems()).map(({ part }) => part)
    expect(parts).to.deep.equal(['broker', 'queues'])
  })
}
