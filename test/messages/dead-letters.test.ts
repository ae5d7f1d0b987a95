import { randomUUID } from 'node:crypto'
import type { ConsumeMessage } from 'amqplib'
import { expect } from 'chai'
import { pino } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { Bus } from '../../messages/bus.ts'
import { deadLetterOf } from '../../messages/dead-letter.ts'
import { connectOperator, type OperatorConnection } from '../../messages/operator-connection.ts'
import { DEAD_LETTERS } from '../../messages/topology.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { poll } from '../support/poll.ts'
import { failure } from './failure.ts'
import { connectRaw, type RawClient } from './raw-client.ts'
import { delivered } from './scripted-amqp.ts'

/** More reads than RabbitMQ 4 allows a queue without a delivery limit of its own. */
const LOOKS = 25
const logger = pino({ level: 'silent' })
const { signal } = new AbortController()

describe('the queue of dead letters', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let bus: Bus
  let raw: RawClient
  let operator: OperatorConnection

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    bus = await connectBus({ ...{ url: vhost.url, appId: 'coordinator', role: 'coordinator' }, logger })
    await bus.declareTopology()
    raw = await connectRaw(vhost.url)
    operator = await connectOperator({ url: vhost.url, name: 'operator', version: '1.2.3', logger })
  })

  after(async () => {
    await operator?.[Symbol.asyncDispose]()
    await raw?.close()
    await bus?.close()
    await vhost?.remove()
  })

  beforeEach(() => raw.channel.purgeQueue(DEAD_LETTERS.name))

  const length = async (): Promise<number> => (await raw.channel.checkQueue(DEAD_LETTERS.name)).messageCount
  const untilLength = (wanted: number) =>
    poll(async () => ((await length()) === wanted ? true : undefined), {
      deadlineMs: 10_000,
      failure: () => `there are not ${wanted}`,
    })

  /** A command that could not be handled, with ids of its own. */
  async function bury(messageId: string, more: Partial<ConsumeMessage['properties']> = {}): Promise<void> {
    const command = delivered(1, { messageId, userId: 'howdah', ...more })
    const { exchange, routingKey, content, options } = deadLetterOf(
      command,
      'howdah.coordinator',
      'a test',
      new Date(),
    )
    await raw.publish(exchange, routingKey, content, { ...options, userId: 'howdah' })
  }

  const ids = async (): Promise<(string | undefined)[]> =>
    (await operator.deadLetters.list(signal)).map(({ messageId }) => messageId)
  const idOf = async (messageId: string): Promise<string> =>
    (await operator.deadLetters.list(signal)).find((letter) => letter.messageId === messageId)?.id ?? 'none'

  it('keeps a message that is read and requeued again and again', async () => {
    await raw.publish('howdah.dead', '', 'kept', { persistent: true })
    for (let looks = 0; looks < LOOKS; ) {
      const message = await raw.channel.get(DEAD_LETTERS.name)
      if (!message) continue
      expect(message.content.toString()).to.equal('kept')
      raw.channel.reject(message, true)
      looks += 1
    }
    // A quorum queue has the last one back a moment after the channel took the reject.
    await untilLength(1)
  })

  it('is listed in its order, again and again, and nothing is taken from it', async () => {
    for (const id of ['a', 'b', 'c']) await bury(id)
    for (let look = 0; look < 3; look++) expect(await ids()).to.deep.equal(['a', 'b', 'c'])
    await untilLength(3)
    const shown = await operator.deadLetters.find(await idOf('b'), signal)
    expect(JSON.parse(shown.content.toString())).to.deep.equal({ session: 's1' })
  })

  it('loses exactly the one that is dropped', async () => {
    for (const id of ['a', 'b', 'c']) await bury(id)
    expect(await operator.deadLetters.drop(await idOf('b'), signal)).to.include({ messageId: 'b' })
    expect(await ids()).to.deep.equal(['a', 'c'])
    expect(await failure(operator.deadLetters.drop('0123456789ab', signal))).to.include({
      code: 'unknown_dead_letter',
    })
  })

  it('gives one back to where it came from, with its own message id, and loses it only then', async () => {
    const commands: string[] = []
    const consumer = await bus.consumeQueries(async ({ messageId, userId }) => {
      commands.push(`${messageId} of ${userId}`)
      return 'ack'
    })
    for (const id of ['a', 'b', 'c']) await bury(id)
    await operator.deadLetters.retry(await idOf('b'), signal)
    await poll(() => (commands.length > 0 ? true : undefined), {
      deadlineMs: 10_000,
      failure: () => 'it did not come',
    })
    expect(commands).to.deep.equal(['b of howdah'])
    expect(await ids()).to.deep.equal(['a', 'c'])
    await consumer.close()
  })

  it('keeps one that no queue takes', async () => {
    const lost = delivered(1, { messageId: 'lost', userId: 'howdah' })
    const origin = {
      ...lost,
      fields: { ...lost.fields, exchange: 'howdah.agents', routingKey: 'target.gone' },
    }
    const { exchange, content, options } = deadLetterOf(origin, 'howdah.target.gone', 'a test', new Date())
    await raw.publish(exchange, 'target.gone', content, { ...options, userId: 'howdah' })
    const error = await failure(operator.deadLetters.retry(await idOf('lost'), signal))
    expect(error).to.include({ code: 'unroutable' })
    expect(error.message).to.include('howdah.agents with the routing key target.gone')
    expect(await ids()).to.deep.equal(['lost'])
  })

  it('gives back all that it can, and says what it cannot', async () => {
    await bury('a')
    await raw.publish('howdah.dead', '', 'no letter of ours', { persistent: true, userId: 'howdah' })
    await bury('b')
    const { retried, failed } = await operator.deadLetters.retryAll(signal)
    expect(retried).to.equal(2)
    expect(failed.map(({ error }) => error.code)).to.deep.equal(['invalid_message'])
    await untilLength(1)
    await raw.channel.purgeQueue('howdah.coordinator.queries')
  })

  it('keeps what was sent again and not yet removed, when the operator dies in between', async () => {
    await bury('a')
    const dying = await connectOperator({ url: vhost.url, name: 'dying', version: '1.2.3', logger })
    // Its connection is closed while the letter waits for its confirm.
    const retrying = dying.deadLetters.retry(await idOf('a'), signal).catch((error: Error) => error)
    await dying[Symbol.asyncDispose]()
    await retrying
    const left = await ids()
    const { messageCount: sent } = await raw.channel.checkQueue('howdah.coordinator.queries')
    expect(left.length + sent, 'it is there, or was sent, or both').to.be.greaterThan(0)
    await raw.channel.purgeQueue('howdah.coordinator.queries')
  })

  it('is worked on by one at a time, so that nobody takes a part of it for the whole', async () => {
    for (let index = 0; index < 300; index++) await bury(`m${index}`)
    const others = await Promise.all(
      ['second', 'third'].map((name) => connectOperator({ url: vhost.url, name, version: '1.2.3', logger })),
    )
    const lists = await Promise.all([operator, ...others].map((one) => one.deadLetters.list(signal)))
    expect(lists.map((list) => list.length)).to.deep.equal([300, 300, 300])
    await Promise.all(others.map((one) => one[Symbol.asyncDispose]()))
  })

  it('of 10,000 is listed, searched and emptied in seconds', async () => {
    const burying = Array.from({ length: 10_000 }, () => bury(randomUUID()))
    await Promise.all(burying)
    await bury('last')
    const begun = performance.now()
    expect(await ids()).to.have.length(10_001)
    const listed = performance.now()
    await operator.deadLetters.drop(await idOf('last'), signal)
    await untilLength(10_000)
    const dropped = performance.now()
    expect(await operator.deadLetters.dropAll(signal)).to.equal(10_000)
    await untilLength(0)
    const took = [listed - begun, dropped - listed, performance.now() - dropped].map(Math.round)
    expect(Math.max(...took), `list, drop one, drop all: ${took} ms`).to.be.lessThan(15_000)
  })
})
