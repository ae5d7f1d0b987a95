import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { pino } from 'pino'
import { brokerUser } from '../../messages/broker-address.ts'
import { type BrokerConnection, openConnection } from '../../messages/connection.ts'
import { MAX_REPLY_BYTES } from '../../messages/envelope.ts'
import { createPublishing, type Publishing } from '../../messages/publishing.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { failure } from './failure.ts'
import { connectRaw, type RawClient } from './raw-client.ts'

const logger = pino({ level: process.env.HOWDAH_TEST_LOG ?? 'silent' })
/** RabbitMQ refuses messages to an internal exchange as it refuses those without permission: 403, and the channel is gone. */
const FORBIDDEN = 'forbidden'
const QUEUE = 'kept'
/** Well below the 30 s that a publication may take. */
const SOON_MS = 5_000

describe('a message that RabbitMQ refuses', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let raw: RawClient
  let connection: BrokerConnection
  let ended: AbortController
  let publishing: Publishing

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    raw = await connectRaw(vhost.url)
    await raw.channel.assertExchange(FORBIDDEN, 'topic', { internal: true })
    for (const exchange of ['commands', 'events']) {
      await raw.channel.assertExchange(exchange, 'topic')
      await raw.channel.assertQueue(QUEUE)
      await raw.channel.bindQueue(QUEUE, exchange, '#')
    }
  })

  beforeEach(async () => {
    await raw.channel.purgeQueue(QUEUE)
    ended = new AbortController()
    connection = await openConnection({
      url: vhost.url,
      shownAs: { name: 'publisher', version: undefined },
      purpose: 'publish',
      logger,
      waitMs: 10_000,
    })
    publishing = createPublishing({
      ...{ connection, userId: brokerUser(vhost.url), ended: ended.signal, logger },
      setUp: async () => {},
      onOpen: () => {},
    })
  })

  afterEach(async () => {
    publishing.close()
    ended.abort()
    await connection.close()
  })

  after(async () => {
    await raw?.close()
    await vhost?.remove()
  })

  let sent = 0
  const publish = (exchange: string, routingKey: string, content = Buffer.from('{}')): Promise<void> =>
    publishing.publish({
      ...{ exchange, routingKey, content, timeoutMs: 30_000 },
      options: { messageId: `m-${++sent}` },
    })

  it('because its sender lacks the permission is rejected soon, while others flow to other exchanges', async () => {
    const slowest = { good: 0, refused: 0 }
    const timed = async (kind: keyof typeof slowest, publishing: Promise<unknown>): Promise<void> => {
      const began = performance.now()
      await publishing
      slowest[kind] = Math.max(slowest[kind], performance.now() - began)
    }
    const all: Promise<void>[] = []
    const until = Date.now() + 3_000
    let good = 0
    for (let i = 0; Date.now() < until; i++) {
      all.push(timed('good', publish('events', `s${i}`)))
      good += 1
      const refused = failure(publish(FORBIDDEN, `s${i}`)).then(({ code }) =>
        expect(code).to.equal('configuration'),
      )
      all.push(timed('refused', refused))
      await sleep(50)
    }
    await Promise.all(all)
    expect(slowest.good).to.be.below(1_000)
    expect((await raw.channel.checkQueue(QUEUE)).messageCount).to.equal(good)
  })

  it('because there is no such exchange is rejected soon, and names it', async () => {
    const began = Date.now()
    const error = await failure(publish('missing', 'key'))
    expect(error).to.include({ code: 'unroutable', message: 'there is no exchange missing' })
    expect(Date.now() - began).to.be.below(SOON_MS)
  })

  it('because it is too large is rejected soon, and what was sent around it to the same exchange arrives', async () => {
    const began = Date.now()
    const before = Array.from({ length: 50 }, (_, i) => publish('events', `before-${i}`))
    const tooLarge = failure(publish('events', 'large', Buffer.alloc(MAX_REPLY_BYTES + 1)))
    const after = Array.from({ length: 50 }, (_, i) => publish('events', `after-${i}`))
    const error = await tooLarge
    expect(error.code).to.equal('message_too_large')
    expect(error.message)
      .to.include(String(MAX_REPLY_BYTES + 1))
      .and.include('max_message_size')
    await Promise.all([...before, ...after])
    expect(Date.now() - began).to.be.below(SOON_MS)
    const keys = new Set<string>()
    for (;;) {
      const message = await raw.channel.get(QUEUE, { noAck: true })
      if (!message) break
      keys.add(message.fields.routingKey)
    }
    expect([...keys].filter((key) => key.startsWith('before-'))).to.have.length(50)
    expect([...keys].filter((key) => key.startsWith('after-'))).to.have.length(50)
  })
})
