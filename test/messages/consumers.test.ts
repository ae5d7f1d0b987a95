import { expect } from 'chai'
import { pino } from 'pino'
import { type Consumers, createConsumers, type Work } from '../../messages/consumers.ts'
import { EXPECT_COMMANDS } from '../../messages/envelope.ts'
import type { Publication } from '../../messages/publication.ts'
import { COORDINATOR_REPLIES, createReplies } from '../../messages/replies.ts'
import { COORDINATOR_COMMANDS } from '../../messages/topology.ts'
import { delivered, ScriptedConnection, until } from './scripted-amqp.ts'

const work: Work = {
  ...{ queue: COORDINATOR_COMMANDS, expected: EXPECT_COMMANDS },
  prepare: async (channel) => {
    await channel.assertQueue(COORDINATOR_COMMANDS.name)
  },
  handle: async () => 'ack',
}

describe('the consumers of a bus', () => {
  let connection: ScriptedConnection
  let published: Publication[]
  let consumers: Consumers

  beforeEach(() => {
    connection = new ScriptedConnection()
    published = []
    const publishing = {
      publish: async (publication: Publication) => {
        published.push(publication)
      },
    }
    consumers = createConsumers({
      ...{
        connection: connection.asConnection,
        ended: new AbortController().signal,
        tag: 'test',
        prefetch: 20,
      },
      redelivery: { tries: 3, firstMs: 1, maxMs: 2 },
      ...{
        publishing,
        replies: createReplies({
          appId: 'coordinator',
          publishing,
          path: COORDINATOR_REPLIES,
          logger: pino({ level: 'silent' }),
        }),
      },
      logger: pino({ level: 'silent' }),
    })
  })

  afterEach(() => consumers.close())

  const calls = () => connection.channels.flatMap((channel) => channel.calls)
  const consuming = (name: string) =>
    connection.channels.find((channel) => channel.calls.includes(`consume ${name}`))

  it('prepare each channel before they consume on it', async () => {
    await consumers.consume(work)
    expect(consuming('howdah.coordinator')?.calls).to.deep.equal([
      'queue howdah.coordinator',
      'prefetch 20',
      'consume howdah.coordinator',
    ])
  })

  it('answer and dead-letter what breaks the contract', async () => {
    await consumers.consume(work)
    const channel = consuming('howdah.coordinator')
    channel?.deliver('howdah.coordinator', delivered(1, { replyTo: 'howdah.reply.to' }, 'no JSON'))
    await until(() => channel?.calls.includes('ack 1') === true)
    expect(published.map(({ exchange, routingKey }) => [exchange, routingKey])).to.deep.equal([
      ['', 'howdah.reply.to'],
      ['howdah.dead', 'session.show'],
    ])
  })

  it('that only watch neither answer nor dead-letter, whatever comes', async () => {
    await consumers.watch('session.#', () => {
      throw new Error('a watch that fails')
    })
    const queue = calls()
      .find((call) => call.startsWith('consume howdah.watch.'))
      ?.slice('consume '.length)
    expect(calls()).to.include(`bind ${queue} howdah.events session.#`)
    const channel = consuming(queue ?? '')
    const usage = { fetchedBytes: 1, totalBytes: 2, cacheBytes: 3 }
    const good = delivered(2, { type: 'session.usage' }, JSON.stringify({ session: 's1', usage }))
    good.fields.routingKey = 'session.s1.usage'
    channel?.deliver(queue ?? '', delivered(1, { replyTo: 'howdah.reply.to' }, 'no JSON'))
    channel?.deliver(queue ?? '', good)
    await until(() => channel?.calls.includes('ack 1') === true && channel.calls.includes('ack 2'))
    expect(published).to.deep.equal([])
  })

  it('are closed once each, alone or together', async () => {
    const one = await consumers.consume(work)
    await consumers.watch('agent.#', () => {})
    await one.close()
    await one.close()
    await consumers.close()
    await consumers.close()
    expect(calls().filter((call) => call.startsWith('cancel '))).to.have.length(2)
  })
})
