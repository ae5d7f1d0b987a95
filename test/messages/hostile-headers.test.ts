import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { CONTRACT_VERSION } from '../../messages/definitions.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { poll } from '../support/poll.ts'
import { connectRaw, properties, type RawClient } from './raw-client.ts'

/** Default prefetch of the coordinator's consumer. */
const PREFETCH = 20

describe('headers of a message from outside', function () {
  this.timeout(30_000)
  let vhost: TestVhost
  let coordinator: Bus
  let outside: RawClient
  const deliveries: string[] = []
  const addresses: string[] = []

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    coordinator = await connectBus({
      url: vhost.url,
      appId: 'coordinator',
      role: 'coordinator',
      logger: pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' }),
    })
    await coordinator.consumeQueries(async (delivery) => {
      deliveries.push(delivery.messageId)
      if (delivery.replyTo !== undefined) addresses.push(delivery.replyTo)
      await coordinator.reply(delivery, { accepted: true, agents: [] })
      return 'ack'
    })
    outside = await connectRaw(vhost.url)
  })

  afterEach(async () => {
    deliveries.length = 0
    await outside.channel.purgeQueue('howdah.dead-letters')
  })

  after(async () => {
    await outside?.close()
    await coordinator?.close()
    await vhost?.remove()
  })

  const ask = () => outside.ask('howdah.commands', 'agent.list', '{}', properties('agent.list'))

  it('that route a refused message to further queues do not bring its copy back: it is dead-lettered once', async () => {
    const headers = { 'howdah-version': CONTRACT_VERSION, CC: ['howdah.coordinator.queries'] }
    await outside.publish('howdah.commands', 'agent.list', 'no JSON', properties('agent.list', { headers }))
    const dead = await outside.deadLetter()
    // A copy that came back would stand in the queue before these.
    for (let i = 0; i < 3; i++) expect((await ask()).body.accepted).to.equal(true)
    expect((await outside.channel.checkQueue('howdah.dead-letters')).messageCount).to.equal(0)
    expect(dead.properties.headers?.['howdah-original-headers']).to.include('howdah.coordinator')
  })

  it('that are too large are refused and dead-lettered at once, and hold nothing up', async () => {
    const began = Date.now()
    // More than amqplib can encode again, as other clients can send them.
    const large = 'x'.repeat(65_450)
    const sizes = [20_000, ...Array<number>(PREFETCH).fill(large.length)]
    for (const size of sizes) {
      const headers = { 'howdah-version': CONTRACT_VERSION, large: large.slice(0, size) }
      const reply = await outside.ask(
        'howdah.commands',
        'agent.list',
        '{}',
        properties('agent.list', { headers }),
      )
      expect(reply.body.error).to.include({ code: 'message_too_large', field: 'headers' })
      const dead = await outside.deadLetter()
      expect(dead.properties.headers?.['howdah-original-headers'].length).to.be.below(5_000)
    }
    expect((await ask()).body.accepted).to.equal(true)
    expect(Date.now() - began).to.be.below(10_000)
    expect(deliveries).to.have.length(1)
  })

  it('that name a client of a node which is not there as the reply address hold up no other answer', async () => {
    const { channel } = outside
    await channel.consume('amq.rabbitmq.reply-to', () => {}, { noAck: true })
    addresses.length = 0
    await outside.publish(
      'howdah.commands',
      'agent.list',
      '{}',
      properties('agent.list', { replyTo: 'amq.rabbitmq.reply-to' }),
    )
    const genuine = await poll(async () => addresses[0], {
      deadlineMs: 5_000,
      failure: () => 'it did not arrive',
    })
    // Names a channel of a node by its hash: RabbitMQ 3.10 ends the connection of whoever answers to an unknown one.
    const [encoded = '', key] = genuine.slice('amq.rabbitmq.reply-to.'.length).split('.')
    const pid = Buffer.from(encoded, 'base64')
    const lastDigit = pid.indexOf('reply@') + 'reply@'.length + 7
    pid[lastDigit] = pid[lastDigit] === 0x31 ? 0x32 : 0x31
    const replyTo = `amq.rabbitmq.reply-to.${pid.toString('base64')}.${key}`
    for (let i = 0; i < 3; i++) {
      await outside.publish('howdah.commands', 'agent.list', '{}', properties('agent.list', { replyTo }))
      expect((await ask()).body.accepted).to.equal(true)
    }
    expect((await channel.checkQueue('howdah.dead-letters')).messageCount).to.equal(0)
  })
})
