import { expect } from 'chai'
import { pino } from 'pino'
import { createBrokerAlarm } from '../../messages/broker-alarm.ts'
import { CONTRACT_VERSION } from '../../messages/definitions.ts'
import type { Publication } from '../../messages/publication.ts'
import { createPublisher } from '../../messages/publisher.ts'
import { createRequests, type Requests } from '../../messages/requests.ts'
import { agentCommandRoute, agentQueryRoute, commandRoute, eventRoute } from '../../messages/route.ts'
import { createSender, type Sender } from '../../messages/sender.ts'
import { failure } from './failure.ts'
import { delivered, ScriptedChannel, until } from './scripted-amqp.ts'

const AGENT = { kind: 'mount', name: 'm1' } as const
const COORDINATOR = {
  ...{ appId: 'client', agentReplies: 'howdah.replies.test' },
  requireExchange: async () => undefined,
}
const USAGE = { session: 's1', usage: { fetchedBytes: 1, totalBytes: 2, cacheBytes: 3 } }

describe('a message that is sent', () => {
  let published: Publication[]
  let requests: Requests
  let sender: Sender
  const alarm = createBrokerAlarm()

  beforeEach(() => {
    published = []
    requests = createRequests()
    const publishing = {
      publish: async (publication: Publication) => {
        published.push(publication)
      },
    }
    sender = createSender({ ...COORDINATOR, publishing, requests, alarm })
  })

  afterEach(() => alarm.clear(false))

  it('is persistent, versioned JSON with its sender and its id', async () => {
    await sender.send(eventRoute('session.usage', USAGE), USAGE, { messageId: 'm-1' })
    const { content, options, ...rest } = published[0] as Publication
    expect(JSON.parse(content.toString())).to.deep.equal(USAGE)
    expect(options).to.deep.include({
      ...{ type: 'session.usage', messageId: 'm-1', appId: 'client', persistent: true },
      contentType: 'application/json',
      headers: { 'howdah-version': CONTRACT_VERSION, 'howdah-session': 's1' },
    })
    expect(rest).to.include({ exchange: 'howdah.events', routingKey: 'session.s1.usage', timeoutMs: 30_000 })
  })

  it('says in its properties which session it is about', async () => {
    await sender.send(eventRoute('session.usage', USAGE), USAGE)
    expect(published[0]?.options).to.include({ correlationId: 's1' })
    await sender.send(agentCommandRoute(AGENT, 'repository.list'), {})
    expect(published[1]?.options).to.deep.include({ headers: { 'howdah-version': CONTRACT_VERSION } })
    expect(published[1]?.options).not.to.have.property('correlationId')
  })

  it('goes by its type to the coordinator and by the name of the agent to the agent', () => {
    expect(commandRoute('session.show')).to.include({
      ...{ exchange: 'howdah.commands', routingKey: 'session.show' },
    })
    expect(agentCommandRoute(AGENT, 'step.run')).to.include({
      ...{ exchange: 'howdah.agents', routingKey: 'mount.m1' },
    })
  })

  it('has to be taken by a queue when it is a command, and not when it is an event', () => {
    expect(commandRoute('session.show').unroutable).to.include('no coordinator')
    expect(agentCommandRoute(AGENT, 'step.run').unroutable).to.include('mount agent m1')
    expect(eventRoute('session.usage', USAGE)).not.to.have.property('unroutable')
  })

  it('is not sent when its body does not match its schema', async () => {
    const error = await failure(sender.send(commandRoute('session.show'), { session: 'NO' }))
    expect(error).to.include({ code: 'invalid_message', field: 'session' })
    expect(published).to.deep.equal([])
  })

  it('of a client is answered by Direct Reply-to', async () => {
    void sender.request(commandRoute('agent.list'), {}, { timeoutMs: 10 }).catch(() => undefined)
    await until(() => published.length === 1)
    expect(published[0]?.options.replyTo).to.equal('amq.rabbitmq.reply-to')
  })

  it('to an agent is answered on the queue of the coordinator', async () => {
    const asking = sender.request(agentQueryRoute(AGENT, 'repository.list'), {}, { messageId: 'm-1' })
    await until(() => published.length === 1)
    const { correlationId, replyTo } = published[0]?.options ?? {}
    expect(replyTo).to.equal('howdah.replies.test')
    const reply = { accepted: true, repositories: [] }
    requests.onReply(delivered(1, { correlationId }, JSON.stringify(reply)))
    expect(await asking).to.deep.equal(reply)
  })

  it('names in its error who did not answer', async () => {
    const route = agentQueryRoute(AGENT, 'repository.list')
    const error = await failure(sender.request(route, {}, { timeoutMs: 10 }))
    expect(error.code).to.equal('timeout')
    expect(error.message).to.include('mount agent m1').and.include('within 0.01 s')
  })

  it('blames nobody for no answer to a request that RabbitMQ did not take', async () => {
    const publishing = createPublisher({
      reopen: () => {},
      userId: 'guest',
      channel: () => new ScriptedChannel().asChannel,
      failure: () => undefined,
      blocked: () => undefined,
      logger: pino({ level: 'silent' }),
    })
    const stuck = createSender({ ...COORDINATOR, publishing, requests, alarm })
    const error = await failure(stuck.request(commandRoute('agent.list'), {}, { timeoutMs: 200 }))
    expect(error.message)
      .to.match(/RabbitMQ did not confirm/)
      .and.not.to.include('coordinator')
  })

  it('is not sent when it is a request and RabbitMQ takes no messages', async () => {
    alarm.raise('low on disk')
    const error = await failure(sender.request(commandRoute('agent.list'), {}))
    expect(error.code).to.equal('broker_blocked')
    expect(error.message).to.include('disk alarm').and.include('Nothing was sent')
    alarm.raise('low on memory & low on disk')
    const both = await failure(sender.request(commandRoute('agent.list'), {}))
    expect(both.message).to.include('RabbitMQ takes no messages: disk and memory alarm')
    expect(published).to.deep.equal([])
  })
})
