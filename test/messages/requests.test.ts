import { expect } from 'chai'
import { z } from 'zod'
import { HowdahError } from '../../messages/errors.ts'
import { type AskOptions, createRequests, type Requests } from '../../messages/requests.ts'
import { failure } from './failure.ts'
import { delivered, until } from './scripted-amqp.ts'

describe('a request', () => {
  let requests: Requests
  let sent: string[]
  let settled: AbortSignal | undefined

  beforeEach(() => {
    requests = createRequests()
    sent = []
  })

  const ask = (more: Partial<AskOptions> = {}): Promise<unknown> =>
    requests.ask({
      exchange: 'howdah.commands',
      schema: z.object({ accepted: z.boolean() }),
      timeoutMs: 5_000,
      unanswered: 'it did not answer',
      async send(correlationId, signal) {
        sent.push(correlationId)
        settled = signal
      },
      ...more,
    })

  const reply = (content: string, correlationId = sent[0]): void =>
    requests.onReply(delivered(1, { correlationId }, content))

  it('resolves with the reply that has its correlation id', async () => {
    const asking = ask()
    reply('{"accepted":false}', 'another')
    reply('{"accepted":true}')
    expect(await asking).to.deep.equal({ accepted: true })
    expect(settled?.aborted).to.equal(true)
  })

  it('is rejected by a reply that breaks the contract', async () => {
    for (const content of ['{"accepted":', '{"accepted":1}', 'null']) {
      sent = []
      const asking = failure(ask())
      reply(content)
      expect((await asking).code, content).to.equal('invalid_message')
    }
  })

  it('is sent again with the same correlation id on a new channel, once RabbitMQ had it', async () => {
    const sending = Promise.withResolvers<void>()
    const asking = ask({
      send: async (correlationId) => {
        sent.push(correlationId)
        await sending.promise
      },
    })
    requests.resend('howdah.commands')
    expect(sent).to.have.length(1)
    sending.resolve()
    await until(() => {
      requests.resend('howdah.commands')
      return sent.length === 2
    })
    expect(sent[1]).to.equal(sent[0])
    await until(() => true)
    requests.resend('howdah.agents')
    expect(sent, 'on the channel of another exchange').to.have.length(2)
    reply('{"accepted":true}')
    await asking
  })

  it('is rejected when it cannot be sent, at its deadline, by its signal, and when the bus is closed', async () => {
    const unroutable = new HowdahError('unroutable', 'no queue')
    expect(await failure(ask({ send: () => Promise.reject(unroutable) }))).to.equal(unroutable)
    expect(await failure(ask({ timeoutMs: 1 }))).to.include({
      code: 'timeout',
      message: 'it did not answer',
    })
    const reason = new HowdahError('cancelled', 'enough')
    const before = sent.length
    expect(await failure(ask({ signal: AbortSignal.abort(reason) }))).to.equal(reason)
    expect(sent).to.have.length(before)
    const asking = failure(ask())
    requests.close()
    expect((await asking).code).to.equal('broker_unavailable')
  })
})
