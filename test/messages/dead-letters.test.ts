import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import { DEAD_LETTERS } from '../../messages/topology.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { connectRaw } from './raw-client.ts'

/** More reads than RabbitMQ 4 allows a queue without a delivery limit of its own. */
const LOOKS = 25

describe('the queue of dead letters', function () {
  this.timeout(60_000)
  let vhost: TestVhost

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
  })

  after(() => vhost?.remove())

  it('keeps a message that is read and requeued again and again', async () => {
    const bus = await connectBus({
      ...{ url: vhost.url, appId: 'coordinator', role: 'coordinator' },
      logger: pino({ level: 'silent' }),
    })
    await bus.declareTopology()
    const raw = await connectRaw(vhost.url)
    await raw.publish('howdah.dead', '', 'kept', { persistent: true })
    for (let looks = 0; looks < LOOKS; ) {
      const message = await raw.channel.get(DEAD_LETTERS.name)
      if (!message) continue
      expect(message.content.toString()).to.equal('kept')
      raw.channel.nack(message, false, true)
      looks += 1
    }
    expect((await raw.channel.checkQueue(DEAD_LETTERS.name)).messageCount).to.equal(1)
    await raw.close()
    await bus.close()
  })
})
