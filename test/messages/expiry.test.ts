import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { type BusRole, connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import type { AgentView } from '../../messages/values.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { failure } from './failure.ts'
import { connectRaw } from './raw-client.ts'

const AGENT = { kind: 'target', name: 'db-7' } as const
const ALIVE_MS = 100

describe('a coordinator that comes back after an outage', function () {
  this.timeout(30_000)
  let vhost: TestVhost
  let coordinator: Bus
  let agent: Bus
  let client: Bus

  const connect = (role: BusRole): Promise<Bus> =>
    connectBus({ url: vhost.url, appId: role, role, logger: pino({ level: 'silent' }) })

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    coordinator = await connect('coordinator')
    agent = await connect('agent')
    client = await connect('client')
    await coordinator.declareTopology()
  })

  after(async () => {
    await Promise.all([client?.close(), agent?.close(), coordinator?.close()])
    await vhost?.remove()
  })

  async function expectNoDeadLetters(): Promise<void> {
    const raw = await connectRaw(vhost.url)
    expect((await raw.channel.checkQueue('howdah.dead-letters')).messageCount).to.equal(0)
    await raw.close()
  }

  it('gets no heartbeat that is outdated, and the fresh ones before what happened to sessions', async () => {
    const beat = (host: string): AgentView => ({
      ...{ ...AGENT, online: true, lastSeen: new Date().toISOString(), version: '1', host },
    })
    for (const host of ['old-1', 'old-2', 'old-3']) {
      await agent.report(AGENT, 'agent.online', beat(host), { expiresMs: ALIVE_MS })
    }
    for (let i = 0; i < 50; i++)
      await agent.report(AGENT, 'session.findings', { session: 's1', warnings: ['one'] })
    await sleep(3 * ALIVE_MS)
    await agent.report(AGENT, 'agent.online', beat('fresh'), { expiresMs: 10_000 })
    const hosts: string[] = []
    const heartbeats = await coordinator.consumeHeartbeats(async (report) => {
      if (report.type === 'agent.online') hosts.push(report.body.host)
      return 'ack'
    })
    while (hosts.length === 0) await sleep(10)
    await heartbeats.close()
    expect(hosts).to.deep.equal(['fresh'])
    await expectNoDeadLetters()
  })

  it('gets no usage and no progress that is outdated, and outcomes without waiting for them', async () => {
    const usage = (fetchedBytes: number) => ({ fetchedBytes, totalBytes: 200, cacheBytes: 3 })
    const about = { session: 's1', step: 'mount', direction: 'run', sequence: 3 } as const
    for (let i = 0; i < 100; i++) {
      await agent.report(AGENT, 'session.usage', { session: 's1', usage: usage(i) }, { expiresMs: ALIVE_MS })
      await agent.report(AGENT, 'session.step-progress', { ...about, bytesDone: i }, { expiresMs: ALIVE_MS })
    }
    const error = { code: 'mount_failed', message: 'it failed', retryable: true } as const
    await agent.report(AGENT, 'session.step-failed', { ...about, error })
    await sleep(3 * ALIVE_MS)
    await agent.report(AGENT, 'session.usage', { session: 's1', usage: usage(200) })
    const seen: string[] = []
    const outcomes: string[] = []
    await coordinator.consumeReports(async ({ type }) => {
      if (type !== 'session.findings') outcomes.push(type)
      return 'ack'
    })
    await coordinator.consumeObservations(async ({ type }) => {
      seen.push(type)
      return 'ack'
    })
    while (seen.length === 0 || outcomes.length === 0) await sleep(10)
    expect(seen).to.deep.equal(['session.usage'])
    expect(outcomes).to.deep.equal(['session.step-failed'])
    await expectNoDeadLetters()
  })

  it('answers no query that nobody waits for any more, and carries out every command', async () => {
    const options = { timeoutMs: 300 }
    expect((await failure(client.request('agent.list', {}, options))).code).to.equal('timeout')
    expect((await failure(client.request('session.retry', { session: 's1' }, options))).code).to.equal(
      'timeout',
    )
    const types: string[] = []
    const keep = async ({ type }: { readonly type: string }) => {
      types.push(type)
      return 'ack' as const
    }
    await coordinator.consumeQueries(keep)
    await coordinator.consumeCommands(keep)
    while (types.length === 0) await sleep(10)
    const asked = client.request('agent.list', {}, options)
    await failure(asked)
    expect(types).to.deep.equal(['session.retry', 'agent.list'])
    await expectNoDeadLetters()
  })
})
