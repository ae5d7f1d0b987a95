import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import type { PrivateBroker } from '../../coordinator/cli/broker.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { agentPermissions } from '../../messages/permissions.ts'
import { startTestBroker } from '../support/rabbitmq.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const AGENT = { kind: 'target', name: 'db-7' } as const
const OTHER = { kind: 'target', name: 'db-8' } as const
const RUN_MS = 3_000
/** A report takes some milliseconds, and 30 s at most. */
const SOON_MS = 1_000

describe('an agent that lacks a permission', function () {
  this.timeout(60_000)
  let directory: string
  let broker: PrivateBroker
  let coordinator: Bus
  let agent: Bus
  const reported: string[] = []

  async function api(path: string, method = 'GET', body?: object): Promise<unknown> {
    const { username, password, origin } = new URL(broker.managementUrl ?? '')
    const response = await fetch(`${origin}/api/${path}`, {
      method,
      headers: {
        authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
        'content-type': 'application/json',
      },
      ...(body && { body: JSON.stringify(body) }),
    })
    if (!response.ok) throw new Error(`${path}: ${response.status}`)
    return method === 'GET' ? response.json() : undefined
  }

  /** A user that may publish reports of its own name, and no replies. */
  async function createUser(): Promise<string> {
    const put = (path: string, body: object) => api(path, 'PUT', body)
    await put('users/agent', { password: 'secret', tags: '' })
    const { configure, read, topics } = agentPermissions(AGENT)
    await put('permissions/%2F/agent', { configure, write: '^howdah\\.(events|dead)$', read })
    for (const { exchange, ...topic } of topics) {
      await put('topic-permissions/%2F/agent', { exchange: exchange.name, ...topic })
    }
    const url = new URL(broker.url)
    url.username = 'agent'
    url.password = 'secret'
    return url.href
  }

  before(async function () {
    this.timeout(120_000)
    directory = await mkdtemp(join(tmpdir(), 'howdah-missing-permission-'))
    broker = await startTestBroker({ directory, logger, management: true, console: true })
    coordinator = await connectBus({ url: broker.url, appId: 'coordinator', role: 'coordinator', logger })
    await coordinator.consumeReports(async ({ messageId }) => {
      reported.push(messageId)
      return 'ack'
    })
    await coordinator.enroll(AGENT)
    agent = await connectBus({ url: await createUser(), appId: 'agent', role: 'agent', logger })
    await agent.consumeAgentCommands({ ...AGENT, instance: 'i1' }, async (delivery) => {
      await agent.reply(delivery, { accepted: true, repositories: [] })
      return 'ack'
    })
  })

  after(async () => {
    await Promise.all([agent?.close(), coordinator?.close()])
    await broker?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  it('reports all the while, although its replies and its reports as another are refused', async () => {
    const refusals: unknown[] = []
    const asking: Promise<unknown>[] = []
    let slowest = 0
    const ids: string[] = []
    const end = Date.now() + RUN_MS
    for (let i = 0; Date.now() < end; i++) {
      asking.push(
        coordinator.requestAgent(AGENT, 'repository.list', {}, { timeoutMs: RUN_MS }).catch(() => undefined),
      )
      asking.push(
        agent
          .report(OTHER, 'session.findings', { session: 's1', warnings: ['one'] })
          .catch((error) => refusals.push(error)),
      )
      const messageId = `m-${i}`
      ids.push(messageId)
      const began = performance.now()
      await agent.report(AGENT, 'session.findings', { session: 's1', warnings: ['one'] }, { messageId })
      slowest = Math.max(slowest, performance.now() - began)
      await sleep(20)
    }
    await Promise.all(asking)
    expect(slowest).to.be.below(SOON_MS)
    expect(ids.length).to.be.above(20)
    while (new Set(reported).size < ids.length) await sleep(20)
    expect(refusals).to.have.length(ids.length)
    for (const error of refusals) {
      expect(error).to.be.instanceOf(HowdahError).with.property('code', 'configuration')
    }
    expect((refusals[0] as Error).message).to.match(/does not allow this user.*agent\.target\.db-8/)
  })

  it('has one connection to publish and one to consume, each with its name', async () => {
    const names = new Set<string>()
    const wanted = ['agent (publish)', 'agent (consume)', 'coordinator (publish)', 'coordinator (consume)']
    // The management plugin has the names some seconds later.
    while (!wanted.every((name) => names.has(name))) {
      const connections = (await api('connections')) as { user_provided_name?: string }[]
      for (const { user_provided_name: name } of connections) if (name) names.add(name)
      await sleep(200)
    }
    expect([...names].sort()).to.deep.equal([...wanted].sort())
  })
})
