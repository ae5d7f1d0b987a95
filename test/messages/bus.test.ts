import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus, CommandDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { failure } from './failure.ts'
import { connectRaw } from './raw-client.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

/** More than a reply may have. */
const AGENTS = Array.from({ length: 70_000 }, (_, i) => ({
  ...{ kind: 'target', name: `t${i}`, version: '1', host: 'h'.repeat(200), online: true },
  lastSeen: new Date().toISOString(),
}))

describe('the bus', function () {
  this.timeout(30_000)
  let vhost: TestVhost
  let coordinator: Bus
  let client: Bus
  let agentBus: Bus

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    coordinator = await connectBus({ url: vhost.url, appId: 'coordinator', role: 'coordinator', logger })
    client = await connectBus({ url: vhost.url, appId: 'client', role: 'client', logger })
    agentBus = await connectBus({ url: vhost.url, appId: 'agent', role: 'agent', logger })
  })

  after(async () => {
    await client?.close()
    await agentBus?.close()
    await coordinator?.close()
    await vhost?.remove()
  })

  it('reports unroutable when no coordinator was ever started on this broker', async () => {
    expect((await failure(client.request('agent.list', {}))).code).to.equal('unroutable')
  })

  it('reports unroutable when an agent never registered', async () => {
    const unknown = { kind: 'mount', name: 'unknown' } as const
    expect((await failure(coordinator.sendToAgent(unknown, 'repository.list', {}))).code).to.equal(
      'unroutable',
    )
  })

  it('carries a command to the coordinator and its reply back', async () => {
    const seen: CommandDelivery[] = []
    const consumer = await coordinator.consumeQueries(async (delivery) => {
      seen.push(delivery)
      await coordinator.reply(delivery, { accepted: true, agents: [] })
      return 'ack'
    })
    const reply = await client.request('agent.list', {}, { messageId: 'm-1' })
    await consumer.close()
    expect(reply).to.deep.equal({ accepted: true, agents: [] })
    expect(seen[0]).to.include({
      type: 'agent.list',
      messageId: 'm-1',
      appId: 'client',
      routingKey: 'agent.list',
    })
  })

  it('suggests that the coordinator is not running when there is no reply', async () => {
    const error = await failure(client.request('agent.list', {}, { timeoutMs: 200 }))
    expect(error.code).to.equal('timeout')
    expect(error.message).to.include('howdah coordinator')
  })

  it('rejects consumers that are being started when it is closed', async () => {
    const leaving = await connectBus({ url: vhost.url, appId: 'leaving', role: 'client', logger })
    const consuming = failure(leaving.watchEvents('session.#', () => undefined))
    await leaving.close()
    expect((await consuming).code).to.equal('broker_unavailable')
    expect((await failure(leaving.watchEvents('session.#', () => undefined))).code).to.equal(
      'broker_unavailable',
    )
  })

  it('aborts a request by its signal', async () => {
    const reason = new HowdahError('timeout', 'enough')
    expect(await failure(client.request('agent.list', {}, { signal: AbortSignal.abort(reason) }))).to.equal(
      reason,
    )
  })

  it('keeps the commands of an enrolled agent while it is offline', async () => {
    const agent = { kind: 'mount', name: 'later' } as const
    await coordinator.enroll(agent)
    await coordinator.sendToAgent(agent, 'repository.list', { repository: 'main' })
    const arrived = Promise.withResolvers<unknown>()
    const consumer = await agentBus.consumeAgentCommands({ ...agent, instance: 'i1' }, async ({ body }) => {
      arrived.resolve(body)
      return 'ack'
    })
    expect(await arrived.promise).to.deep.equal({ repository: 'main' })
    await consumer.close()
  })

  it('deletes the queue of an agent, whether it exists or not', async () => {
    const agent = { kind: 'mount', name: 'gone' } as const
    await client.enroll(agent)
    for (let time = 0; time < 2; time++) await coordinator.disenroll(agent)
    expect((await failure(coordinator.sendToAgent(agent, 'repository.list', {}))).code).to.equal('unroutable')
  })

  it('returns the inventory of a mount agent', async () => {
    const agent = { kind: 'mount', name: 'm1' } as const
    await coordinator.enroll(agent)
    const consumer = await agentBus.consumeAgentCommands({ ...agent, instance: 'i1' }, async (delivery) => {
      await agentBus.reply(delivery, { accepted: true, repositories: [] })
      return 'ack'
    })
    expect(
      await coordinator.requestAgent({ kind: 'mount', name: 'm1' }, 'repository.list', {}),
    ).to.deep.equal({ accepted: true, repositories: [] })
    await consumer.close()
  })

  it('answers with an error what cannot be answered otherwise, at the first attempt', async () => {
    let deliveries = 0
    const consumer = await coordinator.consumeQueries(async (delivery) => {
      deliveries += 1
      await coordinator.reply(delivery, { accepted: true, agents: deliveries === 1 ? undefined : AGENTS })
      return 'ack'
    })
    for (const code of ['internal', 'message_too_large']) {
      const reply = await client.request('agent.list', {}, { timeoutMs: 10_000 })
      expect(reply.accepted ? reply : reply.error.code).to.equal(code)
    }
    expect(deliveries).to.equal(2)
    await consumer.close()
  })

  it('delivers events to a watch', async () => {
    const seen = Promise.withResolvers<string>()
    const watch = await client.watchEvents('session.s1.#', ({ type }) => seen.resolve(type))
    const usage = { fetchedBytes: 1, totalBytes: 2, cacheBytes: 3 }
    await coordinator.emit('session.usage', { session: 's2', usage })
    await coordinator.emit('session.lost', { session: 's1', what: 'mount', reason: 'test' })
    expect(await seen.promise).to.equal('session.lost')
    await watch.close()
  })

  it('sends nothing that does not match its schema', async () => {
    const error = await failure(client.request('session.show', { session: 'NO' }))
    expect(error).to.include({ code: 'invalid_message', field: 'session' })
  })

  it('delivers a message again when its handler failed', async () => {
    let deliveries = 0
    const consumer = await coordinator.consumeQueries(async (delivery) => {
      if (delivery.messageId !== 'again') return 'ack'
      deliveries += 1
      if (deliveries === 1) throw new Error('not yet')
      await coordinator.reply(delivery, { accepted: true, agents: [] })
      return 'ack'
    })
    await client.request('agent.list', {}, { messageId: 'again' })
    expect(deliveries).to.equal(2)
    await consumer.close()
  })

  it('says what to do about an existing queue with other properties', async () => {
    const raw = await connectRaw(vhost.url)
    await raw.channel.assertQueue('howdah.target.odd', { durable: true })
    const error = await failure(coordinator.enroll({ kind: 'target', name: 'odd' }))
    expect(error.code).to.equal('configuration')
    expect(error.message).to.include('howdah.target.odd').and.include('delete it')
    await raw.close()
  })

  it('fails at once when the broker refuses the password', async () => {
    const url = new URL(vhost.url)
    url.password = 'wrong'
    const error = await failure(
      connectBus({ url: url.href, appId: 'client', role: 'client', logger, waitMs: 60_000 }),
    )
    expect(error.code).to.equal('configuration')
  })

  it('fails at once when the virtual host does not exist', async () => {
    const url = new URL(vhost.url)
    url.pathname = '/nowhere'
    const error = await failure(
      connectBus({ url: url.href, appId: 'client', role: 'client', logger, waitMs: 60_000 }),
    )
    expect(error.code).to.equal('configuration')
  })

  it('fails after the deadline when the broker cannot be reached, without naming the password', async () => {
    const url = 'amqp://howdah:sesame@127.0.0.1:1/'
    const error = await failure(connectBus({ url, appId: 'client', role: 'client', logger, waitMs: 300 }))
    expect(error.code).to.equal('broker_unavailable')
    expect(error.message).to.include('127.0.0.1:1').and.not.include('sesame')
  })
})
