import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Options } from 'amqplib'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus, CommandDelivery } from '../../messages/bus.ts'
import { MAX_MESSAGE_BYTES } from '../../messages/definitions.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { connectRaw, properties, type RawClient } from './raw-client.ts'

const run = promisify(execFile)
const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
const PUBLISH = { repository: 'main', instance: 'demo', target: 'db-7' }

describe('a message from outside', function () {
  this.timeout(20_000)
  let vhost: TestVhost
  let coordinator: Bus
  let outside: RawClient
  const seen: CommandDelivery[] = []

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    coordinator = await connectBus({
      url: vhost.url,
      appId: 'coordinator',
      role: 'coordinator',
      logger,
      redelivery: { tries: 3, firstMs: 10, maxMs: 20 },
    })
    const handle = async (delivery: CommandDelivery) => {
      if (delivery.type === 'session.show') throw new TypeError('a defect')
      seen.push(delivery)
      await coordinator.reply(delivery, { accepted: true, session: 'demo-1' })
      return 'ack' as const
    }
    await coordinator.consumeCommands(handle)
    await coordinator.consumeQueries(handle)
    outside = await connectRaw(vhost.url)
  })

  afterEach(() => {
    seen.length = 0
  })

  after(async () => {
    await outside?.close()
    await coordinator?.close()
    await vhost?.remove()
  })

  const publish = (body: unknown, options?: Options.Publish) =>
    outside.ask(
      'howdah.commands',
      'instance.publish',
      typeof body === 'string' ? body : JSON.stringify(body),
      options ?? properties('instance.publish'),
    )

  /** Refused with this code and field, dead-lettered with the reason, and the next message is handled. */
  async function expectRefusal(
    reply: Awaited<ReturnType<typeof publish>>,
    code: string,
    field: string,
    queue = 'howdah.coordinator',
  ): Promise<void> {
    expect(reply.body.accepted).to.equal(false)
    expect(reply.body.error).to.include({ code, field, retryable: false })
    expect(reply.body.error?.message.length).to.be.below(500)
    const dead = await outside.deadLetter()
    expect(dead.properties.headers).to.include({
      'howdah-reason': `${code}: ${reply.body.error?.message}`,
      'howdah-exchange': 'howdah.commands',
      'howdah-queue': queue,
    })
    expect((await publish(PUBLISH)).body.accepted).to.equal(true)
  }

  it('gets its reply with its correlation id', async () => {
    const reply = await publish(PUBLISH, properties('instance.publish', { correlationId: 'c-1' }))
    expect(reply).to.deep.equal({ correlationId: 'c-1', body: { accepted: true, session: 'demo-1' } })
  })

  it('is delivered as often as it is sent, with its message_id', async () => {
    for (let i = 0; i < 2; i++) await publish(PUBLISH, properties('instance.publish', { messageId: 'twice' }))
    expect(seen.map(({ messageId }) => messageId)).to.deep.equal(['twice', 'twice'])
  })

  it('is refused when it is not JSON', async () => {
    await expectRefusal(await publish('{"repository":'), 'invalid_message', 'body')
  })

  it('is refused when it is not an object', async () => {
    await expectRefusal(await publish([1, 2]), 'invalid_message', 'body')
  })

  it('is refused with the name of the field that is wrong', async () => {
    await expectRefusal(await publish({ ...PUBLISH, port: 'high' }), 'invalid_message', 'port')
  })

  it('is refused with an unknown field, of which little is repeated', async () => {
    await expectRefusal(await publish({ ...PUBLISH, ['x'.repeat(100_000)]: 1 }), 'invalid_message', 'body')
  })

  it('is refused when its type is unknown', async () => {
    const options = properties('instance.destroy')
    await expectRefusal(await publish(PUBLISH, options), 'unknown_message_type', 'type')
  })

  it('is refused when its type is a property of every object', async () => {
    await expectRefusal(await publish(PUBLISH, properties('constructor')), 'unknown_message_type', 'type')
  })

  it('is refused when it has no type', async () => {
    const { type, ...rest } = properties('')
    await expectRefusal(await publish(PUBLISH, rest), 'invalid_message', 'type')
  })

  it('is refused when it has no message_id', async () => {
    const { messageId, ...rest } = properties('instance.publish')
    await expectRefusal(await publish(PUBLISH, rest), 'invalid_message', 'message_id')
  })

  it('is refused when it speaks another version of the contract', async () => {
    const options = properties('instance.publish', { headers: { 'howdah-version': 1 } })
    await expectRefusal(await publish(PUBLISH, options), 'invalid_message', 'howdah-version')
  })

  it('is refused when its routing key is not its type', async () => {
    const reply = await outside.ask(
      'howdah.commands',
      'session.list',
      JSON.stringify(PUBLISH),
      properties('instance.publish'),
    )
    await expectRefusal(reply, 'invalid_message', 'routing_key', 'howdah.coordinator.queries')
  })

  it('is refused when no coordinator knows its type, instead of being lost', async () => {
    const options = properties('instance.destroy')
    const reply = await outside.ask('howdah.commands', 'instance.destroy', '{}', options)
    await expectRefusal(reply, 'unknown_message_type', 'type', 'howdah.coordinator.queries')
  })

  it('is neither executed nor answered when its reply would go to a queue that is not a client’s', async () => {
    await outside.channel.assertQueue('orders')
    for (const replyTo of ['orders', 'howdah.target.db-7', 'howdah.replies.x', 'howdah.dead-letters']) {
      const options = properties('instance.publish', { replyTo })
      await outside.publish('howdah.commands', 'instance.publish', JSON.stringify(PUBLISH), options)
      const dead = await outside.deadLetter()
      expect(dead.properties.headers?.['howdah-reason']).to.match(/^invalid_message: .* is not answered/)
    }
    expect(seen).to.deep.equal([])
    expect((await outside.channel.deleteQueue('orders')).messageCount).to.equal(0)
  })

  it('is refused without being parsed when it is too large, and only its beginning is kept', async () => {
    const reply = await publish('x'.repeat(MAX_MESSAGE_BYTES + 1))
    expect(reply.body.error?.code).to.equal('message_too_large')
    const dead = await outside.deadLetter()
    expect(dead.content.length).to.equal(MAX_MESSAGE_BYTES)
    expect(dead.properties.headers?.['howdah-original-bytes']).to.equal(MAX_MESSAGE_BYTES + 1)
    expect((await publish(PUBLISH)).body.accepted).to.equal(true)
  })

  it('is dead-lettered without a reply when it asks for none', async () => {
    await outside.publish('howdah.commands', 'instance.publish', 'nonsense', properties('instance.publish'))
    const dead = await outside.deadLetter()
    expect(dead.properties.headers?.['howdah-reason']).to.match(/^invalid_message: /)
    expect(dead.content.toString()).to.equal('nonsense')
  })

  it('is handled although its requester has gone away', async () => {
    const options = properties('instance.publish', { replyTo: 'howdah.reply.gone' })
    await outside.publish('howdah.commands', 'instance.publish', JSON.stringify(PUBLISH), options)
    expect((await publish(PUBLISH)).body.accepted).to.equal(true)
    expect(seen).to.have.length(2)
  })

  it('whose handler fails is answered and dead-lettered after a few tries', async () => {
    const body = JSON.stringify({ session: 'demo-1' })
    const reply = await outside.ask('howdah.commands', 'session.show', body, properties('session.show'))
    expect(reply.body.error).to.include({ code: 'internal' })
    expect(reply.body.error?.message).to.include('session.show').and.include('a defect')
    const dead = await outside.deadLetter()
    expect(dead.properties.headers?.['howdah-reason']).to.equal(
      'its handler failed 3 times; internal: a defect',
    )
    expect((await publish(PUBLISH)).body.accepted).to.equal(true)
  })

  it("may come from Python's pika", async () => {
    const script = `
import json, sys, uuid, pika
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.confirm_delivery()
def on_reply(channel, method, properties, body):
    print(properties.correlation_id, body.decode())
    channel.stop_consuming()
channel.basic_consume('amq.rabbitmq.reply-to', on_reply, auto_ack=True)
channel.basic_publish('howdah.commands', 'instance.publish', json.dumps(json.loads(sys.argv[2])),
    pika.BasicProperties(type='instance.publish', message_id='from-python', delivery_mode=2,
        reply_to='amq.rabbitmq.reply-to', correlation_id='p-1', headers={'howdah-version': 2}), mandatory=True)
channel.start_consuming()
connection.close()`
    const { stdout } = await run('/usr/bin/python3', ['-c', script, vhost.url, JSON.stringify(PUBLISH)])
    expect(stdout.trim()).to.equal('p-1 {"accepted":true,"session":"demo-1"}')
    expect(seen[0]?.messageId).to.equal('from-python')
  })

  it('of amqp-publish, which cannot set a message_id, is dead-lettered with that reason', async () => {
    const args = ['--url', vhost.url, '-e', 'howdah.commands', '-r', 'instance.publish', '-b', '{}']
    await run('amqp-publish', args)
    const dead = await outside.deadLetter()
    expect(dead.properties.headers?.['howdah-reason']).to.match(/^invalid_message: the property type/)
  })
})
