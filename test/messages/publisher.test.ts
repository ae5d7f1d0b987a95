import { expect } from 'chai'
import { pino } from 'pino'
import { HowdahError } from '../../messages/errors.ts'
import type { Publication } from '../../messages/publication.ts'
import { createPublisher, type Publisher } from '../../messages/publisher.ts'
import { failure } from './failure.ts'
import { type Published, publishError, replyError, ScriptedChannel, until } from './scripted-amqp.ts'

const PUBLICATION: Publication = {
  exchange: 'howdah.events',
  routingKey: 'session.s1.usage',
  content: Buffer.from('{}'),
  options: { messageId: 'm-1' },
  timeoutMs: 5_000,
}

describe('the publisher', () => {
  let channel: ScriptedChannel | undefined
  let blocked: string | undefined
  let cause: HowdahError | undefined
  let publisher: Publisher
  let reopened = 0

  beforeEach(() => {
    channel = undefined
    blocked = undefined
    cause = undefined
    publisher = createPublisher({
      reopen: () => {
        reopened += 1
        attach()
      },
      userId: 'guest',
      channel: () => channel?.asChannel,
      failure: () => cause,
      blocked: () => blocked,
      logger: pino({ level: 'silent' }),
    })
  })

  function attach(): ScriptedChannel {
    channel = new ScriptedChannel()
    publisher.attach(channel.asChannel)
    return channel
  }

  it('resolves when RabbitMQ confirms, not before', async () => {
    const { published } = attach()
    let isDone = false
    const publishing = publisher.publish(PUBLICATION).then(() => {
      isDone = true
    })
    await until(() => published.length === 1)
    expect(isDone).to.equal(false)
    expect(published[0]).to.include({ exchange: 'howdah.events', routingKey: 'session.s1.usage' })
    expect(published[0]?.options).to.deep.equal({ messageId: 'm-1', mandatory: false, userId: 'guest' })
    published[0]?.confirm()
    await publishing
  })

  it('publishes what waited for a channel, and again on the next channel what was not confirmed', async () => {
    const publishing = publisher.publish(PUBLICATION)
    const first = attach()
    expect(first.published).to.have.length(1)
    const second = attach()
    first.published[0]?.confirm(new Error('channel closed'))
    expect(second.published[0]?.options.messageId).to.equal('m-1')
    second.published[0]?.confirm()
    await publishing
    expect(attach().published).to.deep.equal([])
  })

  it('publishes again on the same channel what RabbitMQ did not take', async () => {
    const { published } = attach()
    const publishing = publisher.publish(PUBLICATION)
    published[0]?.confirm(new Error('nack'))
    await until(() => published.length === 2)
    published[1]?.confirm()
    await publishing
  })

  it('replaces a channel on which RabbitMQ refuses for seconds, as one that was opened without a leader', async () => {
    attach()
    reopened = 0
    const publishing = publisher.publish(PUBLICATION)
    let answered = 0
    while (reopened === 0) {
      await until(() => (channel?.published.length ?? 0) > answered)
      channel?.published[answered++]?.confirm(new Error('nack'))
    }
    expect(channel?.published).to.have.length(1)
    channel?.published[0]?.confirm()
    await publishing
  }).timeout(10_000)

  it('says of a message that RabbitMQ refuses to the end that it was refused, and what may be the reason', async () => {
    const { published } = attach()
    const publishing = publisher.publish({ ...PUBLICATION, timeoutMs: 400 })
    published[0]?.confirm(new Error('nack'))
    await until(() => published.length === 2)
    published[1]?.confirm(new Error('nack'))
    const error = await failure(publishing)
    expect(error.code).to.equal('broker_unavailable')
    expect(error.message).to.match(/refused a message to session\.s1\.usage 2 times .*full.*majority/)
  })

  it('does not count the end of a channel as a refusal', async () => {
    const first = attach()
    const publishing = failure(publisher.publish({ ...PUBLICATION, timeoutMs: 100 }))
    first.break()
    attach()
    expect((await publishing).code).to.equal('timeout')
  })

  it('rejects a message that was returned, where a queue has to take it', async () => {
    const current = attach()
    const publishing = publisher.publish({ ...PUBLICATION, unroutable: 'no queue takes it' })
    expect(current.published[0]?.options.mandatory).to.equal(true)
    const { exchange, routingKey } = PUBLICATION
    current.emit('return', { fields: { exchange, routingKey }, properties: { messageId: 'm-1' } })
    current.published[0]?.confirm()
    expect(await failure(publishing)).to.include({ code: 'unroutable', message: 'no queue takes it' })
  })

  it('holds back what is published while RabbitMQ takes no messages', async () => {
    const { published } = attach()
    blocked = 'low on disk'
    const publishing = publisher.publish(PUBLICATION)
    expect(published).to.deep.equal([])
    blocked = undefined
    publisher.resume()
    published[0]?.confirm()
    await publishing
  })

  it('rejects at its deadline with the reason for the delay', async () => {
    const hurried = { ...PUBLICATION, timeoutMs: 1 }
    cause = new HowdahError('broker_unavailable', 'connection refused')
    const alone = await failure(publisher.publish(hurried))
    expect(alone.code).to.equal('broker_unavailable')
    expect(alone.message).to.include('connection refused')
    attach()
    expect((await failure(publisher.publish(hurried))).code).to.equal('timeout')
    blocked = 'low on disk'
    expect((await failure(publisher.publish(hurried))).code).to.equal('broker_blocked')
  })

  it('rejects with the reason of an aborted signal, and publishes it no more', async () => {
    const reason = new HowdahError('cancelled', 'enough')
    const aborting = new AbortController()
    const publishing = failure(publisher.publish({ ...PUBLICATION, signal: aborting.signal }))
    aborting.abort(reason)
    expect(await publishing).to.equal(reason)
    expect(await failure(publisher.publish({ ...PUBLICATION, signal: aborting.signal }))).to.equal(reason)
    expect(attach().published).to.deep.equal([])
  })

  it('rejects at once what cannot be encoded, and goes on', async () => {
    const current = attach()
    for (const [thrown, code] of [
      [new RangeError('the headers exceed the buffer'), 'message_too_large'],
      [new TypeError('a header of an unknown type'), 'internal'],
    ] as const) {
      current.encoderError = thrown
      const error = await failure(publisher.publish(PUBLICATION))
      expect(error.code).to.equal(code)
      expect(error.message).to.include(thrown.message).and.include('session.s1.usage')
    }
    current.encoderError = undefined
    const publishing = publisher.publish(PUBLICATION)
    current.published[0]?.confirm()
    await publishing
  })

  describe('for one of whose messages RabbitMQ closes the channel', () => {
    let isBad: (published: Published) => boolean
    let error: Error
    let deaths: number

    /** A channel that RabbitMQ closes at a bad message, when it has read those before. */
    function open(): void {
      const opened = new ScriptedChannel()
      channel = opened
      opened.onPublish = (published) => {
        if (!isBad(published)) return
        queueMicrotask(() => {
          if (channel !== opened) return
          deaths += 1
          opened.break(error)
          channel = undefined
          queueMicrotask(open)
        })
      }
      publisher.attach(opened.asChannel)
    }

    beforeEach(() => {
      isBad = ({ options }) => options.messageId === 'bad'
      error = publishError(406, 'PRECONDITION_FAILED - message size 5 is larger than configured max size 4')
      deaths = 0
      open()
    })

    const publish = (messageId: string, routingKey = messageId) =>
      publisher.publish({ ...PUBLICATION, routingKey, options: { messageId } })
    const confirmAll = () => {
      for (const { options, confirm } of channel?.published ?? []) if (options.messageId !== 'bad') confirm()
    }

    it('rejects that one, and publishes those before and after it', async () => {
      let settled = 0
      const good = ['a', 'b', 'c', 'd'].map((id) => publish(id).then(() => (settled += 1)))
      const bad = failure(publish('bad'))
      good.push(publish('e').then(() => (settled += 1)))
      expect(await bad).to.include({ code: 'message_too_large' })
      await until(() => {
        confirmAll()
        return settled === 5
      })
      await Promise.all(good)
      expect(deaths).to.equal(2)
    })

    it('names what is not permitted or missing, and does not try the same route again for a while', async () => {
      for (const [code, expected] of [
        [403, 'configuration'],
        [404, 'unroutable'],
      ] as const) {
        error = publishError(code)
        deaths = 0
        const both = [failure(publish('bad', `key-${code}`)), failure(publish('bad', `key-${code}`))]
        for (const { code: actual } of await Promise.all(both)) expect(actual).to.equal(expected)
        const again = await failure(publish('other', `key-${code}`))
        expect(again.code).to.equal(expected)
        expect(deaths).to.equal(2)
      }
    })

    it('publishes all at once again after the channel was lost for another reason', async () => {
      const good = [publish('a'), publish('b')]
      channel?.break(replyError(320))
      open()
      expect(channel?.published).to.have.length(2)
      confirmAll()
      await Promise.all(good)
    })
  })

  it('is drained when everything is confirmed, or at the deadline', async () => {
    await publisher.drain(60_000)
    const { published } = attach()
    const publishing = publisher.publish(PUBLICATION)
    await publisher.drain(1)
    const drained = publisher.drain(60_000)
    published[0]?.confirm()
    await Promise.all([publishing, drained])
  })

  it('rejects at once what is unconfirmed when it is closed, and everything afterwards', async () => {
    attach()
    const publishing = failure(publisher.publish(PUBLICATION))
    publisher.close()
    expect((await publishing).code).to.equal('broker_unavailable')
    expect((await failure(publisher.publish(PUBLICATION))).code).to.equal('broker_unavailable')
  })
})
