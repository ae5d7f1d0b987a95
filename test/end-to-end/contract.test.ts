import { execFileSync, spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { type ChannelModel, connect, type GetMessage } from 'amqplib'
import { expect } from 'chai'
import { CONTRACT_VERSION, MAX_MESSAGE_BYTES } from '../../messages/definitions.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

describe('the message contract, seen from outside', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let connection: ChannelModel
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'lz4' })
    await production.backup('full')
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
    connection = await connect(fleet.brokerUrl)
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await connection?.close()
    await fleet?.remove(failed)
    await production?.remove()
  })

  interface Sent {
    readonly type?: string
    readonly routingKey?: string
    readonly messageId?: string
    readonly body: string | object
    readonly version?: number
  }

  /** Publishes with amqplib alone and waits for the answer. */
  async function ask(sent: Sent): Promise<{
    accepted: boolean
    session?: string
    error?: { code: string; message: string; field?: string }
  }> {
    const channel = await connection.createChannel()
    try {
      const { queue } = await channel.assertQueue(`howdah.reply.${crypto.randomUUID()}`, { exclusive: true })
      const type = sent.type ?? 'instance.publish'
      const answer = new Promise<Buffer>((resolve) => {
        void channel.consume(queue, (message) => message && resolve(message.content), { noAck: true })
      })
      channel.publish(
        'howdah.commands',
        sent.routingKey ?? type,
        Buffer.from(typeof sent.body === 'string' ? sent.body : JSON.stringify(sent.body)),
        {
          type,
          messageId: sent.messageId ?? crypto.randomUUID(),
          replyTo: queue,
          correlationId: 'c1',
          headers: { 'howdah-version': sent.version ?? CONTRACT_VERSION },
        },
      )
      return JSON.parse((await answer).toString()) as Awaited<ReturnType<typeof ask>>
    } finally {
      await channel.close()
    }
  }

  async function nextDeadLetter(): Promise<GetMessage> {
    const channel = await connection.createChannel()
    try {
      for (;;) {
        const message = await channel.get('howdah.dead-letters', { noAck: true })
        if (message !== false) return message
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    } finally {
      await channel.close()
    }
  }

  const publish = (): object => ({ repository: 'main', instance: production.stanza, target: 'db-7' })

  it('the Python program of the documents publishes, and follows the session until it is published', async () => {
    const page = await readFile(new URL('../../docs/integration.md', import.meta.url), 'utf8')
    const program = (/```python\n([\s\S]*?)```/.exec(page)?.[1] ?? '')
      .replace('amqp://user:password@broker/howdah', fleet.brokerUrl)
      .replace(
        '"repository": "prod", "instance": "main"',
        `"repository": "main", "instance": "${production.stanza}"`,
      )
    const { stdout, stderr } = spawnSync('/usr/bin/python3', ['-c', program], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    expect(stderr).to.equal('')
    expect(stdout).to.match(/^published/m)
    const reply = await fleet.bus.request('session.list', {})
    const session = (reply.accepted && reply.sessions[0]) || expect.fail('there is no session')
    expect(await fleet.sql(session, 'SELECT 1')).to.equal('1')
    await fleet.howdahJson('unpublish', session.id, '--yes')
  })

  it('a command of amqp-tools without the properties of the contract is dead-lettered with the reason', async () => {
    execFileSync('amqp-publish', [
      '-u',
      fleet.brokerUrl,
      '-e',
      'howdah.commands',
      '-r',
      'session.list',
      '-b',
      '{}',
    ])
    const letter = await nextDeadLetter()
    expect(letter.properties.headers)
      .to.have.property('howdah-reason')
      .that.matches(/message_id|type|version/)
  })

  it('the same message_id twice creates one session and gets the same answer', async () => {
    const messageId = crypto.randomUUID()
    const [first, second] = await Promise.all([
      ask({ body: publish(), messageId }),
      ask({ body: publish(), messageId }),
    ])
    const third = await ask({ body: publish(), messageId })
    expect([second, third]).to.deep.equal([first, first])
    const { stdout } = await fleet.howdah('sessions', '--json')
    expect(stdout.split(first.session ?? '?').length - 1).to.be.greaterThan(0)
    const reply = await fleet.bus.request('session.list', {})
    expect(reply.accepted && reply.sessions.length).to.equal(1)
    await fleet.untilState(first.session ?? '', 'published')
    await fleet.howdahJson('unpublish', first.session ?? '', '--yes')
  })

  const bad: readonly (readonly [string, Sent, string])[] = [
    ['that is not JSON', { body: '{"repository": ' }, 'invalid_message'],
    ['of an unknown type', { type: 'instance.destroy', body: {} }, 'unknown_message_type'],
    ['that is too large', { body: `"${'x'.repeat(MAX_MESSAGE_BYTES)}"` }, 'message_too_large'],
    [
      'with a wrongly typed field',
      { body: { repository: 'main', instance: 'demo', target: 7 } },
      'invalid_message',
    ],
    [
      'with an unknown field',
      { body: { repository: 'main', instance: 'demo', target: 'db-7', prot: 1 } },
      'invalid_message',
    ],
    [
      'with a name that climbs out',
      { body: { repository: 'main', instance: '../../etc', target: 'db-7' } },
      'invalid_message',
    ],
    ['of another version', { body: {}, type: 'session.list', version: 99 }, 'invalid_message'],
  ]
  for (const [what, sent, code] of bad) {
    it(`a message ${what} is answered and dead-lettered with a reason, and the consumer continues`, async () => {
      const answer = await ask(sent)
      expect(answer.accepted).to.equal(false)
      expect(answer.error?.code).to.equal(code)
      const letter = await nextDeadLetter()
      expect(String(letter.properties.headers?.['howdah-reason'])).to.include(answer.error?.message ?? '?')
      expect(await ask({ type: 'session.list', body: {} })).to.have.property('accepted', true)
    })
  }
})
