/** An agent on a real broker: what it cannot read, and queries that take long. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import { pino } from 'pino'
import { type AgentOptions, type RunningAgent, runAgent } from '../../agents/runtime/agent.ts'
import { openJournal } from '../../agents/runtime/journal.ts'
import { MAX_QUERIES } from '../../agents/runtime/query-answers.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus, ReportDelivery } from '../../messages/bus.ts'
import { connectRaw, properties, type RawClient } from '../messages/raw-client.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { command, MOUNTED } from './commands.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const address = { kind: 'target', name: 'db-7' } as const

describe('an agent', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let directory: string
  let coordinator: Bus
  let agentBus: Bus
  let agent: RunningAgent | undefined
  let raw: RawClient
  let reports: ReportDelivery[]

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-agent-'))
    coordinator = await connectBus({ url: vhost.url, appId: 'coordinator', role: 'coordinator', logger })
    await coordinator.enroll(address)
    const take = async (report: ReportDelivery) => {
      reports.push(report)
      return 'ack' as const
    }
    await coordinator.consumeReports(take)
    await coordinator.consumeHeartbeats(take)
    await coordinator.consumeObservations(take)
    agentBus = await connectBus({ url: vhost.url, appId: 'db-7', role: 'agent', logger })
    raw = await connectRaw(vhost.url)
  })

  beforeEach(() => {
    reports = []
  })

  afterEach(async () => {
    await agent?.close()
    agent = undefined
  })

  after(async () => {
    await raw?.close()
    await agentBus?.close()
    await coordinator?.close()
    await vhost?.remove()
    await rm(directory, { recursive: true })
  })

  let journals = 0
  async function start(queries: AgentOptions['queries'] = {}): Promise<void> {
    journals += 1
    agent = await runAgent({
      address,
      bus: agentBus,
      journal: openJournal(path.join(directory, `${journals}.sqlite`)),
      steps: { mount: { run: async () => MOUNTED, undo: async () => ({ undone: [] }) } },
      queries,
      describe: () => ({}),
      heartbeatMs: 10_000,
      logger,
    })
  }

  async function reported(type: ReportDelivery['type']): Promise<ReportDelivery> {
    for (;;) {
      const found = reports.find((report) => report.type === type)
      if (found) return found
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  it('says which versions of the contract it understands', async () => {
    await start()
    const { body } = await reported('agent.online')
    expect(body).to.deep.include({ contract: { oldest: 2, newest: 2 } })
  })

  it('reports a step that it cannot read as failed', async () => {
    await start()
    const sent = command('s1', 3)
    const body = { ...sent, input: { ...sent.input, recoverTo: { type: 'moon', value: 'full' } } }
    await raw.publish('howdah.agents', 'target.db-7', JSON.stringify(body), properties('step.run'))
    const failed = await reported('session.step-failed')
    expect(failed.body).to.deep.include({ session: 's1', step: 'mount', direction: 'run', sequence: 3 })
    expect(failed.body).to.have.nested.property('error.code', 'invalid_message')
    expect(failed.body).to.have.nested.property('error.field', 'input.recoverTo.type')
    await raw.deadLetter()
  })

  it('reports a step of a version that it does not understand as failed', async () => {
    await start()
    const newer = properties('step.undo', { headers: { 'howdah-version': 3 } })
    await raw.publish('howdah.agents', 'target.db-7', JSON.stringify(command('s1', 4)), newer)
    const failed = await reported('session.step-failed')
    expect(failed.body).to.deep.include({ session: 's1', direction: 'undo', sequence: 4 })
    expect(failed.body).to.have.nested.property('error.field', 'howdah-version')
    await raw.deadLetter()
  })

  it('takes commands while it is asked more than it can answer, and refuses what is too much', async () => {
    const { promise: asked, resolve: answer } = Promise.withResolvers<void>()
    await start({
      'repository.list': async () => {
        await asked
        return { accepted: true, repositories: [] }
      },
    })
    const most = MAX_QUERIES.concurrency + MAX_QUERIES.waiting
    const replies = Array.from({ length: most + 1 }, () =>
      coordinator.requestAgent(address, 'repository.list', {}, { timeoutMs: 50_000 }),
    )
    const refused = await Promise.race(replies)
    expect(refused).to.have.nested.property('error.code', 'agent_busy')
    await coordinator.sendToAgent(address, 'step.undo', command('s2', 1))
    const done = await reported('session.step-done')
    expect(done.body).to.deep.include({ session: 's2', direction: 'undo' })
    answer()
    const accepted = (await Promise.all(replies)).filter((reply) => reply.accepted)
    expect(accepted).to.have.length(most)
  })
})
