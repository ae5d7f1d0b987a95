import { Writable } from 'node:stream'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { DEAD_LETTERS } from '../../messages/topology.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { connectRaw } from './raw-client.ts'

/** More reads than RabbitMQ 4 allows a queue without a delivery limit of its own. */
const LOOKS = 25

describe('the queue of dead letters', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let bus: Bus | undefined
  let lines: string[] = []

  before(async function () {
    this.timeout(120_000)
    await (await testVhost()).remove()
  })

  beforeEach(async () => {
    vhost = await testVhost()
    lines = []
  })

  afterEach(async () => {
    await bus?.close()
    await vhost.remove()
  })

  async function start(): Promise<void> {
    const destination = new Writable({
      write(chunk, _, done) {
        lines.push(String(chunk))
        done()
      },
    })
    bus = await connectBus({ url: vhost.url, appId: 'agent', logger: pino({ level: 'warn' }, destination) })
    const agent = { kind: 'target', name: 't1' } as const
    await bus.enroll(agent)
    await bus.consumeAgentCommands(agent, async () => 'ack')
  }

  it('keeps a message that is read and requeued again and again', async () => {
    await start()
    const raw = await connectRaw(vhost.url)
    await raw.publish('', DEAD_LETTERS.name, 'kept', { persistent: true })
    for (let looks = 0; looks < LOOKS; ) {
      const message = await raw.channel.get(DEAD_LETTERS.name)
      if (!message) continue
      expect(message.content.toString()).to.equal('kept')
      raw.channel.nack(message, false, true)
      looks += 1
    }
    expect((await raw.channel.checkQueue(DEAD_LETTERS.name)).messageCount).to.equal(1)
    await raw.close()
    expect(lines).to.deep.equal([])
  })

  it('of an earlier release is kept with its messages, with a single warning', async () => {
    const raw = await connectRaw(vhost.url)
    const earlier = { 'x-queue-type': 'quorum', 'x-max-length': 10_000 }
    await raw.channel.assertQueue(DEAD_LETTERS.name, { durable: true, arguments: earlier })
    await raw.publish('', DEAD_LETTERS.name, 'kept', { persistent: true })
    await start()
    const message = await raw.channel.get(DEAD_LETTERS.name, { noAck: true })
    if (!message) throw new Error('the message is gone')
    expect(message.content.toString()).to.equal('kept')
    await raw.close()
    expect(lines).to.have.lengthOf(1)
    expect(lines[0]).to.include(DEAD_LETTERS.name).and.include('delete the queue when it is empty')
  })
})
