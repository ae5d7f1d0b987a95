import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { connectRaw, type RawClient } from './raw-client.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const REDELIVERY = { tries: 3, firstMs: 5, maxMs: 40 }
/** RabbitMQ's own limit is 20 deliveries. With these delays a message would be tried more often than that. */
const OUTAGE_MS = 3_000
const MESSAGES = 60

const AGENT = { kind: 'target', name: 't1' } as const

describe('a store that is away for a while', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let coordinator: Bus
  let agent: Bus
  let client: Bus
  let outside: RawClient
  let isAway = true
  let failures = 0
  const events: string[] = []
  const commands: string[] = []

  const store = async (): Promise<void> => {
    await sleep(1)
    if (!isAway) return
    failures += 1
    throw new Unavailable('the store cannot be reached')
  }

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    coordinator = await connectBus({
      url: vhost.url,
      appId: 'coordinator',
      role: 'coordinator',
      logger,
      redelivery: REDELIVERY,
    })
    client = await connectBus({ url: vhost.url, appId: 'client', role: 'client', logger })
    agent = await connectBus({ url: vhost.url, appId: 'agent', role: 'agent', logger })
    outside = await connectRaw(vhost.url)
    await coordinator.consumeReports(async ({ messageId }) => {
      await store()
      events.push(messageId)
      return 'ack'
    })
    await coordinator.consumeQueries(async (delivery) => {
      await store()
      commands.push(delivery.messageId)
      await coordinator.reply(delivery, { accepted: true, agents: [] })
      return 'ack'
    })
  })

  after(async () => {
    await outside?.close()
    await Promise.all([coordinator?.close(), agent?.close(), client?.close()])
    await vhost?.remove()
  })

  it('costs no event and no command: each waits, and is handled and answered once it is back', async () => {
    const ids = Array.from({ length: MESSAGES }, (_, i) => `m-${String(i).padStart(2, '0')}`)
    const asking = ids.map((messageId) => client.request('agent.list', {}, { messageId, timeoutMs: 50_000 }))
    for (const messageId of ids) {
      await agent.report(AGENT, 'session.findings', { session: 's1', warnings: ['one'] }, { messageId })
    }
    const began = Date.now()
    while (Date.now() - began < OUTAGE_MS) await sleep(50)
    expect(failures).to.be.above(2 * 20)
    expect([...events, ...commands]).to.deep.equal([])
    isAway = false
    const replies = await Promise.all(asking)
    expect(replies).to.deep.equal(ids.map(() => ({ accepted: true, agents: [] })))
    while (events.length < ids.length) await sleep(20)
    expect(events).to.deep.equal(ids)
    expect(commands.sort()).to.deep.equal(ids)
    expect((await outside.channel.checkQueue('howdah.dead-letters')).messageCount).to.equal(0)
  })
})
