import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { type BusRole, connectBus } from '../../messages/amqp-bus.ts'
import type { Bus, EventDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { restartBroker, type TestVhost, testVhost } from '../support/broker.ts'
import { connectRaw } from './raw-client.ts'

const AGENT = { kind: 'target', name: 't1' } as const
const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

describe('a broker that is restarted or crashes', function () {
  this.timeout(90_000)
  let vhost: TestVhost
  const buses: Bus[] = []

  const connect = async (role: BusRole): Promise<Bus> => {
    const bus = await connectBus({ url: vhost.url, appId: role, role, logger })
    buses.push(bus)
    return bus
  }

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    // RabbitMQ 3.10 loses track of a quorum queue when it is killed within a second of the queue's making.
    const coordinator = await connect('coordinator')
    await coordinator.consumeCommands(async () => 'ack')
    await coordinator.close()
  })

  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()))
  })

  after(() => vhost?.remove())

  for (const crash of [false, true]) {
    it(`loses no event of those sent around its ${crash ? 'crash' : 'restart'}`, async () => {
      const coordinator = await connect('coordinator')
      const agent = await connect('agent')
      const received = new Set<string>()
      const watched: EventDelivery[] = []
      await coordinator.consumeReports(async ({ messageId }) => {
        received.add(messageId)
        return 'ack'
      })
      let missed = 0
      await coordinator.watchEvents(
        'session.#',
        (delivery) => watched.push(delivery),
        () => {
          missed += 1
        },
      )
      const sent: string[] = []
      const sending: Promise<void>[] = []
      let restarted = false
      const restarting = restartBroker({ crash }).then(() => {
        restarted = true
      })
      const usage = { fetchedBytes: 1, totalBytes: 2, cacheBytes: 3 }
      while (!restarted) {
        const messageId = randomUUID()
        sent.push(messageId)
        sending.push(
          agent.report(
            AGENT,
            'session.findings',
            { session: 's1', warnings: ['one'] },
            { messageId, timeoutMs: 60_000 },
          ),
        )
        await sleep(5)
      }
      await restarting
      await Promise.all(sending)
      while (received.size < sent.length) await sleep(20)
      expect([...received].sort()).to.deep.equal([...sent].sort())
      // The watch is restored, too, and was told that it may have missed something.
      watched.length = 0
      while (watched.length === 0) {
        await coordinator.emit('session.usage', { session: 's1', usage })
        await sleep(50)
      }
      expect(missed).to.be.at.least(1)
    })
  }

  it('keeps a request waiting until the reply arrives after the restart', async () => {
    const coordinator = await connect('coordinator')
    const client = await connect('client')
    let deliveries = 0
    const first = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    await coordinator.consumeQueries(async (delivery) => {
      deliveries += 1
      if (deliveries === 1) {
        // Crashes between taking the command and answering it.
        first.resolve()
        await release.promise
      }
      await coordinator.reply(delivery, { accepted: true, agents: [] })
      return 'ack'
    })
    const reply = client.request('agent.list', {}, { timeoutMs: 60_000 })
    await first.promise
    await restartBroker({ crash: true })
    expect(await reply).to.deep.equal({ accepted: true, agents: [] })
    release.resolve()
  })

  it('does not end a consumer whose queue was deleted', async () => {
    const coordinator = await connect('coordinator')
    const client = await connect('client')
    await coordinator.consumeQueries(async (delivery) => {
      await coordinator.reply(delivery, { accepted: true, agents: [] })
      return 'ack'
    })
    const raw = await connectRaw(vhost.url)
    await raw.channel.deleteQueue('howdah.coordinator.queries')
    for (;;) {
      const reply = await client.request('agent.list', {}).catch((error: unknown) => {
        expect(error).to.be.instanceOf(HowdahError).with.property('code', 'unroutable')
      })
      if (reply?.accepted) break
      await sleep(20)
    }
    await raw.close()
  })
})
