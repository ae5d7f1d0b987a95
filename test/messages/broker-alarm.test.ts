import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { openAgentRegistry } from '../../coordinator/agent-registry.ts'
import type { Store } from '../../coordinator/store/store.ts'
import { type BusRole, connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import type { HowdahError } from '../../messages/errors.ts'
import type { AgentView } from '../../messages/values.ts'
import { type TestVhost, testBroker, testVhost } from '../support/broker.ts'
import { poll } from '../support/poll.ts'
import { failure } from './failure.ts'
import { connectRaw } from './raw-client.ts'

const AGENT = { kind: 'target', name: 't1' } as const
/** RabbitMQ's default. */
const USUAL_LIMIT = 50_000_000
const MORE_THAN_ANY_DISK = 2 ** 60
/** Well below every deadline of a request. */
const AT_ONCE_MS = 3_000

describe('a broker whose disk alarm is on', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let lines: string[] = []
  const buses: Bus[] = []

  const connect = async (role: BusRole): Promise<Bus> => {
    const destination = new Writable({
      write(chunk, _, done) {
        lines.push(String(chunk))
        done()
      },
    })
    const bus = await connectBus({
      ...{ url: vhost.url, appId: role, role },
      logger: pino({ level: 'warn' }, destination),
    })
    buses.push(bus)
    return bus
  }

  async function coordinatorThatAnswers(): Promise<Bus> {
    const coordinator = await connect('coordinator')
    await coordinator.consumeQueries(async (delivery) => {
      await coordinator.reply(delivery, { accepted: true, agents: [] })
      return 'ack'
    })
    return coordinator
  }

  const raiseAlarm = async () => (await testBroker()).setDiskFreeLimit(MORE_THAN_ANY_DISK)
  const clearAlarm = async () => (await testBroker()).setDiskFreeLimit(USUAL_LIMIT)

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
  })

  beforeEach(() => {
    lines = []
  })

  afterEach(async () => {
    await clearAlarm()
    await Promise.all(buses.splice(0).map((bus) => bus.close()))
  })

  after(() => vhost?.remove())

  it('fails the first and the next command of a client at once, and is logged as a warning', async () => {
    await coordinatorThatAnswers()
    const client = await connect('client')
    await raiseAlarm()
    for (const sent of [/may still arrive/, /Nothing was sent/]) {
      const began = Date.now()
      const error = await failure(client.request('agent.list', {}))
      expect(error.code).to.equal('broker_blocked')
      expect(error.message)
        .to.match(/takes no messages: disk alarm.*low on disk.*Make room/)
        .and.to.match(sent)
      expect(Date.now() - began).to.be.below(AT_ONCE_MS)
    }
    expect(lines.join('')).to.match(/"level":40,.*RabbitMQ takes no messages.*low on disk/)
  })

  it('is reported as a memory alarm when memory is low', async () => {
    await coordinatorThatAnswers()
    const client = await connect('client')
    const broker = await testBroker()
    await broker.setMemoryHighWatermark(0.000_001)
    try {
      const ask = () => client.request('agent.list', {}).then(() => undefined)
      // The node looks at its memory at intervals.
      const error = await poll<HowdahError>(() => ask().catch((cause) => cause), {
        deadlineMs: 20_000,
        failure: () => 'messages are still taken',
      })
      expect(error).to.include({ code: 'broker_blocked' })
      expect(error.message).to.match(/takes no messages: memory alarm.*low on memory.*Make room/)
    } finally {
      await broker.setMemoryHighWatermark(0.4)
    }
    await poll(() => client.request('agent.list', {}).catch(() => undefined), {
      deadlineMs: 20_000,
      failure: () => 'messages are not taken again',
    })
  })

  it('does not delay the close of a blocked client, with a failed request and an open consumer', async () => {
    await coordinatorThatAnswers()
    const client = await connect('client')
    await client.watchEvents('session.#', () => undefined)
    await raiseAlarm()
    await failure(client.request('agent.list', {}))
    const began = Date.now()
    await client.close()
    expect(Date.now() - began).to.be.below(AT_ONCE_MS)
  })

  it('holds up no consumer: what is in its queue is handled and acknowledged', async () => {
    const coordinator = await connect('coordinator')
    await coordinator.declareTopology()
    const agent = await connect('agent')
    // More than the prefetch, so that the last ones are delivered only after acknowledgements were read.
    const ids = Array.from({ length: 50 }, (_, i) => `during-${i}`)
    for (const messageId of ids) {
      await agent.report(AGENT, 'session.findings', { session: 's1', warnings: ['one'] }, { messageId })
    }
    await raiseAlarm()
    expect((await failure(coordinator.probe())).code).to.equal('broker_blocked')
    const handled: string[] = []
    const consumer = await coordinator.consumeReports(async ({ messageId }) => {
      handled.push(messageId)
      return 'ack'
    })
    while (handled.length < ids.length) await sleep(20)
    expect(handled).to.deep.equal(ids)
    await consumer.close()
    const raw = await connectRaw(vhost.url)
    expect((await raw.channel.checkQueue('howdah.coordinator.events')).messageCount).to.equal(0)
    await raw.close()
  })

  it('ends with the delivery of what agents reported during it, once each', async () => {
    const coordinator = await connect('coordinator')
    const received: string[] = []
    await coordinator.consumeReports(async ({ messageId }) => {
      received.push(messageId)
      return 'ack'
    })
    const agent = await connect('agent')
    await raiseAlarm()
    const ids = ['first', 'second', 'third']
    const sending = ids.map((messageId) =>
      agent.report(
        AGENT,
        'session.findings',
        { session: 's1', warnings: ['one'] },
        { messageId, timeoutMs: 30_000 },
      ),
    )
    while (agent.connectedSince !== undefined) await sleep(20)
    await clearAlarm()
    await Promise.all(sending)
    while (received.length < ids.length) await sleep(20)
    expect(received.sort()).to.deep.equal([...ids].sort())
  })

  it('is the reason in the error when an agent cannot report in time', async () => {
    const agent = await connect('agent')
    await raiseAlarm()
    const error = await failure(agent.report(AGENT, 'agent.offline', AGENT, { timeoutMs: 1_000 }))
    expect(error.code).to.equal('broker_blocked')
    expect(error.message).to.include('low on disk')
  })

  it('does not make agents offline that cannot send their heartbeats', async () => {
    const coordinator = await connect('coordinator')
    const registry = await openAgentRegistry({
      store: { agents: async () => [], saveAgent: async () => undefined } as unknown as Store,
      lostAfterMs: 300,
      listeningSince: () => coordinator.connectedSince,
      now: Date.now,
    })
    const agent: AgentView = {
      ...{ kind: 'target', name: 't1', version: '1', host: 'h', online: true },
      lastSeen: new Date().toISOString(),
    }
    await registry.online(agent)
    await raiseAlarm()
    // As the coordinator does before it looks for silent agents.
    expect((await failure(coordinator.probe())).code).to.equal('broker_blocked')
    const until = Date.now() + 1_000
    while (Date.now() < until) {
      expect(registry.isOnline(agent)).to.equal(true)
      await sleep(50)
    }
    await clearAlarm()
    while (coordinator.connectedSince === undefined) await sleep(10)
    expect(registry.isOnline(agent), 'until a heartbeat can have arrived').to.equal(true)
    while (registry.isOnline(agent)) await sleep(20)
  })

  it('ends for a client whose command was refused', async () => {
    await coordinatorThatAnswers()
    const client = await connect('client')
    await raiseAlarm()
    await failure(client.request('agent.list', {}))
    await clearAlarm()
    for (;;) {
      const reply = await client.request('agent.list', {}).catch((error: HowdahError) => error.code)
      if (reply !== 'broker_blocked') {
        expect(reply).to.deep.equal({ accepted: true, agents: [] })
        break
      }
      await sleep(20)
    }
  })
})
