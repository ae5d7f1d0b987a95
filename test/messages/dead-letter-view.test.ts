import type { ConsumeMessage } from 'amqplib'
import { expect } from 'chai'
import { deadLetterOf } from '../../messages/dead-letter.ts'
import { type DeadLetter, deadLetter, republication } from '../../messages/dead-letter-view.ts'
import { failure } from './failure.ts'
import { delivered } from './scripted-amqp.ts'

const AT = new Date('2026-11-22T06:00:00.000Z')

interface Origin {
  readonly exchange: string
  readonly routingKey: string
  readonly queue?: string
  readonly properties?: Partial<ConsumeMessage['properties']>
}

/** The message as its receiver had it. */
function original({ exchange, routingKey, properties }: Origin): ConsumeMessage {
  const message = delivered(1, properties)
  return { ...message, fields: { ...message.fields, exchange, routingKey } }
}

/** The copy that `writer` made of it, as RabbitMQ delivers it. */
function copyOf(origin: Origin, writer: string | undefined): DeadLetter {
  const { content, options } = deadLetterOf(
    original(origin),
    origin.queue ?? 'howdah.coordinator',
    'its handler failed',
    AT,
  )
  const message = delivered(7)
  return deadLetter({
    content,
    fields: { ...message.fields, exchange: 'howdah.dead', routingKey: origin.routingKey },
    properties: {
      ...message.properties,
      messageId: undefined,
      ...options,
      userId: writer,
      headers: { ...options.headers, 'x-delivery-count': 3 },
    },
  })
}

const command = (type: string, userId: string): Origin => ({
  exchange: 'howdah.commands',
  routingKey: type,
  properties: { type, userId, appId: 'nightly' },
})

describe('a dead letter', () => {
  it('says why and since when it is there, and where the message came from', () => {
    const letter = copyOf(command('session.show', 'howdah-client-ops'), 'howdah-coordinator')
    expect(letter).to.deep.include({
      ...{ reason: 'its handler failed', at: AT, type: 'session.show', messageId: 'm-1' },
      ...{ exchange: 'howdah.commands', routingKey: 'session.show', queue: 'howdah.coordinator' },
      ...{ user: 'howdah-client-ops', application: 'nightly', reportedBy: 'howdah-coordinator' },
    })
  })

  it('has the same id however often it is delivered, and another than any other', () => {
    const one = (key: string) => copyOf(command(key, 'howdah-client-ops'), 'howdah-coordinator').id
    expect(one('session.show'))
      .to.equal(one('session.show'))
      .and.match(/^[0-9a-f]{12}$/)
    expect(one('session.show')).not.to.equal(one('session.retry'))
  })

  it('that RabbitMQ made says the same', () => {
    const message = original({ exchange: 'howdah.dead', routingKey: 'target.db-7' })
    const death = {
      ...{ reason: 'delivery_limit', queue: 'howdah.target.db-7', exchange: 'howdah.agents', count: 1 },
      ...{ 'routing-keys': ['target.db-7'], time: { '!': 'timestamp', value: AT.getTime() / 1000 } },
    }
    const letter = deadLetter({
      ...message,
      properties: {
        ...message.properties,
        userId: 'howdah-coordinator',
        headers: { 'x-death': [death as never] },
      },
    })
    expect(letter).to.deep.include({
      ...{ reason: 'RabbitMQ: delivery_limit', at: AT, exchange: 'howdah.agents', routingKey: 'target.db-7' },
      ...{ queue: 'howdah.target.db-7', user: 'howdah-coordinator' },
    })
  })

  it('is sent again as it was, with its own id and only the headers that are its own', () => {
    const origin = command('session.show', 'howdah-client-ops')
    const headers = { 'howdah-version': 2, 'howdah-session': 's1', CC: ['howdah.agents'] }
    const letter = copyOf({ ...origin, properties: { ...origin.properties, headers } }, 'howdah-coordinator')
    const { exchange, routingKey, content, options } = republication(letter)
    expect({ exchange, routingKey }).to.deep.equal({
      exchange: 'howdah.commands',
      routingKey: 'session.show',
    })
    expect(content.equals(original(origin).content)).to.equal(true)
    expect(options).to.deep.equal({
      ...{ messageId: 'm-1', type: 'session.show', appId: 'nightly', correlationId: 's1' },
      ...{ persistent: true, contentType: 'application/json' },
      headers: { 'howdah-version': 2, 'howdah-session': 's1' },
    })
  })

  const refusals: Record<string, { letter: () => DeadLetter; code: string }> = {
    'came through the default exchange': {
      letter: () => copyOf({ exchange: '', routingKey: 'howdah.coordinator' }, 'howdah-coordinator'),
      code: 'invalid_message',
    },
    'has no message id': {
      letter: () =>
        copyOf(
          { ...command('session.show', 'x'), properties: { messageId: undefined } },
          'howdah-coordinator',
        ),
      code: 'invalid_message',
    },
    'is kept in part only': {
      letter: () => ({
        ...copyOf(command('session.show', 'x'), 'howdah-coordinator'),
        originalBytes: 1_000_000,
      }),
      code: 'message_too_large',
    },
    'does not say who put it there': {
      letter: () => copyOf(command('session.show', 'howdah-client-ops'), undefined),
      code: 'unauthorized',
    },
    'is a command that an agent claims to have received': {
      letter: () => copyOf(command('session.unpublish', 'howdah-operator-alice'), 'howdah-target-db-7'),
      code: 'unauthorized',
    },
    'is a command to another agent than the one that put it there': {
      letter: () => copyOf({ exchange: 'howdah.agents', routingKey: 'target.db-8' }, 'howdah-target-db-7'),
      code: 'unauthorized',
    },
    'is a report of another agent than the one that put it there': {
      letter: () =>
        copyOf(
          { exchange: 'howdah.events', routingKey: 'agent.target.db-8.step-done' },
          'howdah-target-db-7',
        ),
      code: 'unauthorized',
    },
    'is a step that a client claims to have received': {
      letter: () => copyOf({ exchange: 'howdah.agents', routingKey: 'target.db-7' }, 'howdah-client-ops'),
      code: 'unauthorized',
    },
    "is an operator's command from somebody who is none": {
      letter: () => copyOf(command('agent.certify', 'howdah-client-ops'), 'howdah-coordinator'),
      code: 'unauthorized',
    },
    "is an operator's command by its routing key alone": {
      letter: () =>
        copyOf(
          { ...command('agent.certify', 'howdah-client-ops'), properties: { userId: 'howdah-client-ops' } },
          'howdah-coordinator',
        ),
      code: 'unauthorized',
    },
  }
  for (const [name, { letter, code }] of Object.entries(refusals)) {
    it(`is not sent again when it ${name}`, async () => {
      expect(await failure(Promise.resolve().then(() => republication(letter())))).to.include({ code })
    })
  }

  const accepted: Record<string, () => DeadLetter> = {
    "is a command of the agent's own queue": () =>
      copyOf({ exchange: 'howdah.agents', routingKey: 'target.db-7' }, 'howdah-target-db-7'),
    "is the agent's own report": () =>
      copyOf(
        { exchange: 'howdah.events', routingKey: 'agent.target.db-7.step-done' },
        'howdah-target-db-7.2',
      ),
    "is an operator's command of an operator": () =>
      copyOf(command('agent.revoke', 'howdah-operator-alice'), 'howdah-coordinator'),
    'is of a user that all processes share': () => copyOf(command('agent.revoke', 'howdah'), 'howdah'),
  }
  for (const [name, letter] of Object.entries(accepted)) {
    it(`is sent again when it ${name}`, () => {
      expect(republication(letter()).options.messageId).to.equal('m-1')
    })
  }
})
