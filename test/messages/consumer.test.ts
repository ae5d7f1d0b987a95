import type { ConsumeMessage } from 'amqplib'
import { expect } from 'chai'
import { pino } from 'pino'
import type { Consumer, Delivery, Outcome } from '../../messages/bus.ts'
import { startConsumer } from '../../messages/consumer.ts'
import { EXPECT_COMMANDS } from '../../messages/envelope.ts'
import { type ErrorBody, HowdahError } from '../../messages/errors.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { delivered, ScriptedConnection, until } from './scripted-amqp.ts'

const QUEUE = 'howdah.coordinator'
const TAG = 'howdah target db-7'

describe('a consumer', () => {
  let connection: ScriptedConnection
  let consumer: Consumer
  let handle: (delivery: Delivery) => Promise<Outcome>
  let dead: string[]
  let refused: string[]
  let refuse: (message: ConsumeMessage, error: ErrorBody) => Promise<void>
  let deadLetter: (message: ConsumeMessage, queue: string, reason: string) => Promise<void>

  beforeEach(async () => {
    connection = new ScriptedConnection()
    handle = async () => 'ack'
    dead = []
    refused = []
    refuse = async (_message, { code }) => {
      refused.push(code)
    }
    deadLetter = async (_message, queue, reason) => {
      dead.push(`${queue}: ${reason}`)
    }
    consumer = await startConsumer({
      connection: connection.asConnection,
      ended: new AbortController().signal,
      ...{ queue: QUEUE, tag: TAG },
      prefetch: 7,
      redelivery: { tries: 3, firstMs: 1, maxMs: 2 },
      expected: EXPECT_COMMANDS,
      holdMs: 200,
      logger: pino({ level: 'silent' }),
      declare: async (channel) => {
        await channel.assertQueue(QUEUE)
      },
      handle: (delivery) => handle(delivery),
      refuse: (message, error) => refuse(message, error),
      deadLetter: (message, queue, reason) => deadLetter(message, queue, reason),
    })
  })

  afterEach(() => consumer.close())

  const current = () => {
    const channel = connection.channels.at(-1)
    if (!channel) throw new Error('no channel was opened')
    return channel
  }

  async function settled(message: ConsumeMessage): Promise<string | undefined> {
    const { calls } = current()
    const before = calls.length
    current().deliver(QUEUE, message)
    await until(() => calls.length > before)
    return calls.at(-1)
  }

  it('declares its queue before it consumes it, with a prefetch bound', () => {
    expect(current().calls).to.deep.equal([`queue ${QUEUE}`, 'prefetch 7', `consume ${QUEUE}`])
  })

  it('acknowledges what its handler handled', async () => {
    const seen: Delivery[] = []
    handle = async (delivery) => {
      seen.push(delivery)
      return 'ack'
    }
    expect(await settled(delivered(1))).to.equal('ack 1')
    expect(seen[0]).to.deep.include({ type: 'session.show', messageId: 'm-1', body: { session: 's1' } })
  })

  it('acknowledges a dead letter after its copy is safe', async () => {
    const copied = Promise.withResolvers<void>()
    handle = async () => ({ deadLetter: 'of no use' })
    deadLetter = () => copied.promise
    current().deliver(QUEUE, delivered(1))
    await new Promise((resolve) => setImmediate(resolve))
    expect(current().calls).not.to.include('ack 1')
    copied.resolve()
    await until(() => current().calls.includes('ack 1'))
  })

  it('requeues a delivery that could not be copied to the dead letters', async () => {
    handle = async () => ({ deadLetter: 'of no use' })
    deadLetter = async () => {
      throw new Error('no such queue')
    }
    expect(await settled(delivered(1))).to.equal('reject 1')
  })

  it('refuses and dead-letters what breaks the contract, without its handler', async () => {
    handle = async () => {
      throw new Error('its handler was called')
    }
    expect(await settled(delivered(1, { type: 'session.destroy' }))).to.equal('ack 1')
    expect(refused).to.deep.equal(['unknown_message_type'])
    expect(dead[0]).to.match(/^howdah.coordinator: unknown_message_type: /)
  })

  it('rejects a delivery whose handler fails, and answers and dead-letters it at the last attempt', async () => {
    handle = async () => {
      throw new TypeError('a defect')
    }
    expect(await settled(delivered(1))).to.equal('reject 1')
    expect(await settled(delivered(2, { headers: { 'x-delivery-count': 1 } }))).to.equal('reject 2')
    // What was only handed back does not count.
    expect(await settled(delivered(3, { headers: { 'x-acquired-count': 9 } }))).to.equal('reject 3')
    expect([...dead, ...refused]).to.deep.equal([])
    expect(await settled(delivered(4, { headers: { 'x-delivery-count': 2 } }))).to.equal('ack 4')
    expect(dead).to.deep.equal([`${QUEUE}: its handler failed 3 times; internal: a defect`])
    expect(refused).to.deep.equal(['internal'])
  })

  it('gives up, without its handler, on a message that was delivered again and again without an outcome', async () => {
    handle = async () => {
      throw new Error('its handler was called')
    }
    expect(await settled(delivered(1, { headers: { 'x-delivery-count': 30 } }))).to.equal('ack 1')
    expect(dead).to.deep.equal([`${QUEUE}: it was delivered 30 times without an outcome`])
    expect(refused).to.deep.equal(['internal'])
  })

  it('dead-letters also what cannot be answered', async () => {
    refuse = async () => {
      throw new HowdahError('unroutable', 'nobody')
    }
    expect(await settled(delivered(1, { type: 'session.destroy' }))).to.equal('ack 1')
    expect(dead).to.have.length(1)
  })

  it('holds deliveries while what they need is away, and handles them in their order afterwards', async () => {
    let isAway = true
    const handled: string[] = []
    let attempts = 0
    handle = async ({ messageId }) => {
      attempts += 1
      await new Promise((resolve) => setImmediate(resolve))
      if (isAway) throw new Error('saving failed', { cause: new Unavailable('the store is away') })
      handled.push(messageId)
      return 'ack'
    }
    const before = current().calls.length
    // Exhausted already, if it counted.
    for (const tag of [1, 2, 3])
      current().deliver(QUEUE, delivered(tag, { headers: { 'x-delivery-count': 2 } }))
    await until(() => attempts > 10)
    current().deliver(QUEUE, delivered(4))
    expect(current().calls).to.have.length(before)
    isAway = false
    await until(() => handled.length === 4)
    await until(() => current().calls.length === before + 4)
    expect(handled).to.deep.equal(['m-1', 'm-2', 'm-3', 'm-4'])
    expect(current().calls.slice(before)).to.deep.equal(['ack 1', 'ack 2', 'ack 3', 'ack 4'])
    expect([...dead, ...refused]).to.deep.equal([])
  })

  it('holds a delivery whose copy cannot be sent for the moment', async () => {
    let copies = 0
    handle = async () => ({ deadLetter: 'of no use' })
    deadLetter = async () => {
      copies += 1
      if (copies < 3) throw new Unavailable('no broker', { code: 'broker_unavailable' })
    }
    expect(await settled(delivered(1))).to.equal('ack 1')
  })

  it('hands back what it has held for long, without counting it', async () => {
    handle = async () => {
      throw new Unavailable('the store is away')
    }
    expect(await settled(delivered(1))).to.equal('nack 1')
  })

  it('hands back what it holds when it is closed, without counting it', async () => {
    handle = async () => {
      throw new Unavailable('the store is away')
    }
    current().deliver(QUEUE, delivered(1))
    await new Promise((resolve) => setImmediate(resolve))
    await consumer.close()
    expect(current().calls.slice(-3)).to.deep.equal([`cancel ${TAG}`, 'nack 1', 'close'])
  })

  it('starts again when RabbitMQ cancels it or closes its channel', async () => {
    current().deliver(QUEUE, null)
    await until(() => connection.channels.length === 2 && current().calls.includes(`consume ${QUEUE}`))
    current().break()
    await until(() => connection.channels.length === 3 && current().calls.includes(`consume ${QUEUE}`))
    expect(await settled(delivered(1))).to.equal('ack 1')
  })

  it('ignores that the channel of a delivery is gone when its handler ends', async () => {
    const handling = Promise.withResolvers<Outcome>()
    handle = () => handling.promise
    const channel = current()
    channel.deliver(QUEUE, delivered(1))
    channel.break()
    handling.resolve('ack')
    await until(() => connection.channels.length === 2)
    expect(channel.calls).not.to.include('ack 1')
  })

  it('waits for running handlers when it is closed', async () => {
    const handling = Promise.withResolvers<Outcome>()
    handle = () => handling.promise
    current().deliver(QUEUE, delivered(1))
    const closing = consumer.close()
    await until(() => current().calls.includes(`cancel ${TAG}`))
    handling.resolve('ack')
    await closing
    expect(current().calls.slice(-3)).to.deep.equal([`cancel ${TAG}`, 'ack 1', 'close'])
  })

  it('consumes nothing on a channel that is opened again while it is being closed', async () => {
    const handling = Promise.withResolvers<Outcome>()
    handle = () => handling.promise
    current().deliver(QUEUE, delivered(1))
    const closing = consumer.close()
    await until(() => current().calls.includes(`cancel ${TAG}`))
    current().break()
    await until(() => connection.channels.length === 2 && current().calls.includes(`queue ${QUEUE}`))
    await new Promise((resolve) => setImmediate(resolve))
    handling.resolve('ack')
    await closing
    expect(current().calls).not.to.include(`consume ${QUEUE}`)
  })
})
