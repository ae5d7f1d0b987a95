import { expect } from 'chai'
import { pino } from 'pino'
import { type Consumers, createConsumers } from '../../messages/consumers.ts'
import { EXPECT_COMMANDS } from '../../messages/envelope.ts'
import type { Publication, Publisher } from '../../messages/publisher.ts'
import { createReplies } from '../../messages/replies.ts'
import { COORDINATOR_COMMANDS } from '../../messages/topology.ts'
import { delivered, ScriptedConnection, until } from './scripted-amqp.ts'

describe('the consumers of a bus', () => {
  let connection: ScriptedConnection
  let published: Publication[]
  let consumers: Consumers

  beforeEach(() => {
    connection = new ScriptedConnection()
    published = []
    const publisher = {
      publish: async (publication: Publication) => {
        published.push(publication)
      },
    } as Publisher
    consumers = createConsumers({
      ...{ connection: connection.asConnection, ended: new AbortController().signal, prefetch: 20 },
      redelivery: { tries: 3, firstMs: 1, maxMs: 2 },
      ...{ publisher, replies: createReplies({ appId: 'coordinator', publisher }) },
      logger: pino({ level: 'silent' }),
    })
  })

  afterEach(() => consumers.close())

  const calls = () => connection.channels.flatMap((channel) => channel.calls)
  const consuming = (name: string) =>
    connection.channels.find((channel) => channel.calls.includes(`consume ${name}`))

  it('declare exchanges, dead letters and the queue with its bindings before they consume it', async () => {
    await consumers.consume(COORDINATOR_COMMANDS, EXPECT_COMMANDS, async () => 'ack')
    const declared = calls()
    expect(declared.indexOf('queue howdah.dead-letters')).to.be.above(-1)
    expect(declared).to.include('exchange howdah.commands')
    expect(declared).to.include('bind howdah.coordinator howdah.commands #')
    expect(consuming('howdah.coordinator')?.calls.at(-1)).to.equal('consume howdah.coordinator')
  })

  it('answer and dead-letter what breaks the contract', async () => {
    await consumers.consume(COORDINATOR_COMMANDS, EXPECT_COMMANDS, async () => 'ack')
    const channel = consuming('howdah.coordinator')
    channel?.deliver('howdah.coordinator', delivered(1, { replyTo: 'to' }, 'no JSON'))
    await until(() => channel?.calls.includes('ack 1') === true)
    expect(published.map(({ routingKey }) => routingKey)).to.deep.equal(['to', 'howdah.dead-letters'])
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
    channel?.deliver(queue ?? '', delivered(1, { replyTo: 'to' }, 'no JSON'))
    channel?.deliver(queue ?? '', good)
    await until(() => channel?.calls.includes('ack 1') === true && channel.calls.includes('ack 2'))
    expect(published).to.deep.equal([])
  })

  it('are closed once each, alone or together', async () => {
    const one = await consumers.consume(COORDINATOR_COMMANDS, EXPECT_COMMANDS, async () => 'ack')
    await consumers.watch('agent.#', () => {})
    await one.close()
    await one.close()
    await consumers.close()
    await consumers.close()
    expect(calls().filter((call) => call.startsWith('cancel '))).to.have.length(2)
  })
})
