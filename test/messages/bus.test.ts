import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus, CommandDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })

/** The error that a promise rejects with. */
async function failure(promise: Promise<unknown>): Promise<HowdahError> {
  try {
    await promise
  } catch (error) {
    expect(error).to.be.instanceOf(HowdahError)
    return error as HowdahError
  }
  throw new Error('it did not fail')
}

describe('the bus', function () {
  this.timeout(30_000)
  let vhost: TestVhost
  let coordinator: Bus
  let client: Bus

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    coordinator = await connectBus({ url: vhost.url, appId: 'coordinator', logger })
    client = await connectBus({ url: vhost.url, appId: 'client', logger })
  })

  after(async () => {
    await client?.close()
    await coordinator?.close()
    await vhost?.remove()
  })

  it('tells the sender when no coordinator ever was on this broker', async () => {
    expect((await failure(client.request('agent.list', {}))).code).to.equal('unroutable')
  })

  it('tells the sender when an agent never registered', async () => {
    const nobody = { kind: 'mount', name: 'nobody' } as const
    expect((await failure(client.sendToAgent(nobody, 'repository.list', {}))).code).to.equal('unroutable')
  })

  it('carries a command to the coordinator and its reply back', async () => {
    const seen: CommandDelivery[] = []
    const consumer = await coordinator.consumeCommands(async (delivery) => {
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
})
