import { expect } from 'chai'
import { pino } from 'pino'
import { type BusRole, connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { openConnection } from '../../messages/connection.ts'
import { COORDINATOR_QUERIES } from '../../messages/topology.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { poll } from '../support/poll.ts'
import { failure } from './failure.ts'
import { type SilentProxy, startSilentProxy } from './silent-proxy.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const AGENT = { kind: 'target', name: 't1' } as const
const ANSWER_MS = 300

describe('a broker that takes calls and does not answer', function () {
  this.timeout(30_000)
  let vhost: TestVhost
  let proxy: SilentProxy
  const buses: Bus[] = []

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
  })

  beforeEach(async () => {
    proxy = await startSilentProxy(vhost.url)
  })

  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()))
    await proxy.close()
  })

  after(() => vhost?.remove())

  const connect = async (role: BusRole, url = proxy.url): Promise<Bus> => {
    const bus = await connectBus({ url, appId: role, role, logger, answerMs: ANSWER_MS })
    buses.push(bus)
    return bus
  }

  const until = (what: string, condition: () => boolean): Promise<unknown> =>
    poll(() => condition() || undefined, { deadlineMs: 15_000, failure: () => `not so: ${what}` })

  it('is left, and what consumes, publishes and holds the lease begins again with the next connection', async () => {
    const coordinator = await connect('coordinator')
    const received: string[] = []
    const consumer = await coordinator.consumeReports(async ({ messageId }) => {
      received.push(messageId)
      return 'ack'
    })
    const lease = await coordinator.holdLease({ store: 'one', onHeld() {}, onLost() {} })
    const agent = await connect('agent', vhost.url)

    proxy.isSilent = true
    proxy.cut()
    await until('a call is not answered', () => proxy.silenced >= 1)
    expect(consumer.isConsuming).to.equal(false)
    await until('the connections are left for others', () => proxy.silenced >= 3)
    proxy.isSilent = false

    await until('it consumes', () => consumer.isConsuming)
    await until('it holds the lease', () => lease.heldSince !== undefined)
    const finding = { session: 's1', warnings: ['one'] }
    await agent.report(AGENT, 'session.findings', finding, { messageId: 'm1' })
    await until('the report is received', () => received.includes('m1'))
    await coordinator.emit('session.usage', {
      session: 's1',
      usage: { fetchedBytes: 1, totalBytes: 2, cacheBytes: 3 },
    })
  })

  it('is named by the call that it did not answer, also by one on a channel that was open before', async () => {
    const connection = await openConnection({
      ...{
        url: proxy.url,
        shownAs: { name: 'silent', version: undefined },
        purpose: 'consume',
        logger,
        waitMs: 10_000,
        answerMs: ANSWER_MS,
      },
    })
    try {
      const coordinator = await connect('coordinator', vhost.url)
      await coordinator.declareTopology()
      const channel = await connection.openChannel()
      const closed = new Promise<void>((resolve) => channel.once('close', resolve))
      proxy.isSilent = true
      const error = await failure(channel.checkQueue(COORDINATOR_QUERIES.name))
      expect(error).to.include({ code: 'broker_unavailable' })
      expect(error.message).to.equal('RabbitMQ did not answer checkQueue within 0.3 s')
      await closed
      proxy.isSilent = false
      await (await connection.openChannel()).checkQueue(COORDINATOR_QUERIES.name)
    } finally {
      await connection.close()
    }
  })

  it('is left when it does not confirm a message, which is sent again with the next connection, once for its receiver', async () => {
    const coordinator = await connect('coordinator', vhost.url)
    const received: string[] = []
    await coordinator.consumeReports(async ({ messageId }) => {
      received.push(messageId)
      return 'ack'
    })
    const agent = await connect('agent')
    const report = (messageId: string) =>
      agent.report(AGENT, 'session.findings', { session: 's1', warnings: ['one'] }, { messageId })
    await report('m1')
    proxy.isSilent = true
    const second = report('m2')
    await until('the message is swallowed', () => proxy.silenced >= 1)
    proxy.isSilent = false
    await second
    await until('it is received', () => received.includes('m2'))
    expect(received).to.deep.equal(['m1', 'm2'])
  })

  it('holds up no end of a bus', async () => {
    const bus = await connectBus({ url: proxy.url, appId: 'ends', role: 'coordinator', logger })
    await bus.consumeCommands(async () => 'ack')
    proxy.isSilent = true
    const began = Date.now()
    await bus.close()
    expect(Date.now() - began).to.be.below(10_000)
  })
})
