import { expect } from 'chai'
import { pino } from 'pino'
import type { Delivery } from '../../messages/bus.ts'
import { deadLetterOf } from '../../messages/dead-letter.ts'
import { MAX_MESSAGE_BYTES } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { Publication } from '../../messages/publication.ts'
import { COORDINATOR_REPLIES, createReplies } from '../../messages/replies.ts'
import { Unavailable } from '../../messages/unavailable.ts'
import { failure } from './failure.ts'
import { delivered } from './scripted-amqp.ts'

const TO = 'howdah.reply.to'
const REFUSAL = { code: 'invalid_message', message: 'no' } as const

describe('the answer to a delivery', () => {
  let published: Publication[]
  const refusals: Error[] = []
  const publishing = {
    publish: async (publication: Publication) => {
      const refusal = refusals.shift()
      if (refusal) throw refusal
      published.push(publication)
    },
  }
  const replies = createReplies({
    ...{ appId: 'coordinator', publishing, path: COORDINATOR_REPLIES, logger: pino({ level: 'silent' }) },
  })

  beforeEach(() => {
    published = []
  })

  const delivery = (more: Partial<Delivery> = {}): Delivery => ({
    ...{ type: 'agent.list', body: {}, messageId: 'm-1', correlationId: 'c-1', replyTo: TO },
    ...{
      appId: undefined,
      userId: undefined,
      sender: undefined,
      routingKey: 'agent.list',
      redelivered: false,
    },
    ...more,
  })

  it('goes to the queue that the requester named, with its correlation id', async () => {
    await replies.reply(delivery(), { accepted: true, agents: [] })
    expect(published[0]).to.include({ exchange: '', routingKey: TO })
    expect(published[0]?.options).to.include({ type: 'agent.list.reply', correlationId: 'c-1' })
    expect(published[0]?.unroutable).to.equal(undefined)
  })

  it('has the id of the message where that has no correlation id', async () => {
    await replies.reply(delivery({ correlationId: undefined }), { accepted: true, agents: [] })
    await replies.refuse(delivered(7, { replyTo: TO }), REFUSAL)
    expect(published.map(({ options }) => options.correlationId)).to.deep.equal(['m-1', 'm-7'])
  })

  it('is not sent where none is asked for', async () => {
    await replies.reply(delivery({ replyTo: undefined }), { accepted: true, agents: [] })
    await replies.refuse(delivered(1), REFUSAL)
    expect(published).to.deep.equal([])
  })

  it('is an error instead of a reply that does not match its schema or is too large', async () => {
    const host = 'h'.repeat(200)
    const agent = {
      kind: 'target',
      name: 't',
      version: '1',
      host,
      online: true,
      lastSeen: '2026-01-01T00:00:00Z',
    }
    const many = Array.from({ length: 70_000 }, () => agent)
    await replies.reply(delivery(), { accepted: true })
    await replies.reply(delivery({ type: 'step.run' }), {})
    await replies.reply(delivery(), { accepted: true, agents: many })
    const answers = published.map(({ content }) => JSON.parse(String(content)))
    expect(answers.map(({ error }) => error.code)).to.deep.equal([
      'internal',
      'internal',
      'message_too_large',
    ])
    for (const { accepted, error } of answers) {
      expect(accepted).to.equal(false)
      expect(error.message.length).to.be.within(20, 600)
    }
  })

  it('is an error instead of a reply that RabbitMQ does not take', async () => {
    refusals.push(new HowdahError('message_too_large', 'its max_message_size is lower'))
    await replies.reply(delivery(), { accepted: true, agents: [] })
    expect(JSON.parse(String(published[0]?.content)).error.code).to.equal('message_too_large')
    refusals.push(new Unavailable('no broker', { code: 'broker_unavailable' }))
    const rejected = failure(replies.reply(delivery(), { accepted: true, agents: [] }))
    expect((await rejected).code).to.equal('broker_unavailable')
    expect(published).to.have.length(1)
  })

  it('is sent to a message with properties of wrong types, too', async () => {
    const odd = { type: 5, correlationId: {}, replyTo: TO } as object
    await replies.refuse(delivered(1, odd), REFUSAL)
    await replies.refuse(delivered(2, { type: 'x'.repeat(1000), replyTo: TO }), REFUSAL)
    await replies.refuse(delivered(3, { replyTo: TO.padEnd(256, 'x') }), REFUSAL)
    expect(published.map(({ options }) => options.type)).to.deep.equal([
      'unknown.reply',
      `${'x'.repeat(64)}.reply`,
    ])
    expect(JSON.parse(String(published[0]?.content))).to.deep.equal({
      accepted: false,
      error: { ...REFUSAL, retryable: false },
    })
  })
})

describe('a dead letter', () => {
  it('is a copy with the reason and where the message came from', () => {
    const message = delivered(1, { headers: { mine: 'kept' }, correlationId: 'c-1' })
    const copy = deadLetterOf(message, 'howdah.coordinator', 'of no use', new Date(86_400_000))
    expect(copy).to.include({ exchange: 'howdah.dead', routingKey: 'session.show' })
    expect(copy.unroutable).to.be.a('string')
    expect(copy.options).to.deep.include({ messageId: 'm-1', correlationId: 'c-1', persistent: true })
    expect(copy.options.headers).to.deep.equal({
      ...{ 'howdah-reason': 'of no use', 'howdah-queue': 'howdah.coordinator' },
      'howdah-dead-at': '1970-01-02T00:00:00.000Z',
      ...{ 'howdah-exchange': 'howdah.commands', 'howdah-routing-key': 'session.show' },
      'howdah-original-headers': '{"howdah-version":2,"mine":"kept"}',
    })
    expect(copy.content.equals(message.content)).to.equal(true)
  })

  it('has none of the properties and headers that RabbitMQ acts on', () => {
    const acting = { userId: 'somebody', expiration: '5', priority: 9, clusterId: 'c', deliveryMode: 1 }
    const headers = { CC: ['howdah.coordinator'], BCC: ['q'], 'x-delay': 1 }
    const copy = deadLetterOf(
      delivered(1, { ...acting, headers, replyTo: 'amq.rabbitmq.reply-to' }),
      'q',
      'r',
    )
    expect(copy.options).not.to.have.any.keys(...Object.keys(acting), 'replyTo')
    expect(copy.options.headers).not.to.have.any.keys(...Object.keys(headers))
    expect(copy.options.headers).to.include({ 'howdah-user': 'somebody' })
    expect(JSON.parse(copy.options.headers?.['howdah-original-headers'])).to.deep.include(headers)
  })

  it('keeps the beginning of large headers', () => {
    const message = delivered(1, { headers: { large: 'ü'.repeat(60_000) } })
    const text: string = deadLetterOf(message, 'q', 'r').options.headers?.['howdah-original-headers']
    expect(Buffer.byteLength(text)).to.be.within(4_090, 4_096)
    expect(text).to.match(/^\{"howdah-version":2,"large":"ü+$/)
  })

  it('keeps the beginning of what is too large, and the beginning of a long reason', () => {
    const message = delivered(1, {}, 'x'.repeat(MAX_MESSAGE_BYTES + 1))
    const copy = deadLetterOf(message, 'q', 'r'.repeat(5_000))
    expect(copy.content.length).to.equal(MAX_MESSAGE_BYTES)
    expect(copy.options.headers).to.include({ 'howdah-original-bytes': MAX_MESSAGE_BYTES + 1 })
    expect(copy.options.headers?.['howdah-reason']).to.have.length(1_000)
  })
})
