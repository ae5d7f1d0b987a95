import { expect } from 'chai'
import { pino } from 'pino'
import type { AuditEntry } from '../../messages/audit.ts'
import { createAuditLog } from '../../messages/audit-log.ts'
import { connectOperator, type OperatorConnection } from '../../messages/operator-connection.ts'
import { AUDIT, AUDIT_EXCHANGE } from '../../messages/topology.ts'
import { auditEntry } from '../coordinator/store-values.ts'
import { type TestVhost, testVhost } from '../support/broker.ts'
import { poll } from '../support/poll.ts'
import { failure } from './failure.ts'
import { connectRaw, type RawClient } from './raw-client.ts'

const logger = pino({ level: 'silent' })

describe('the audit stream', function () {
  this.timeout(60_000)
  let vhost: TestVhost
  let raw: RawClient
  let operator: OperatorConnection

  before(async function () {
    this.timeout(120_000)
    vhost = await testVhost()
    raw = await connectRaw(vhost.url)
    raw.channel.on('error', () => {})
    operator = await connectOperator({ url: vhost.url, name: 'operator', version: '1.2.3', logger })
  })

  after(async () => {
    await operator?.[Symbol.asyncDispose]()
    await raw?.close()
    await vhost?.remove()
  })

  afterEach(() => raw.channel.deleteQueue(AUDIT.name))

  const entryAt = (id: string, at: string): AuditEntry => {
    const entry = auditEntry(id)
    return { ...entry, body: { ...entry.body, at } } as AuditEntry
  }

  async function write(...entries: AuditEntry[]): Promise<void> {
    const log = createAuditLog({ url: vhost.url, appId: 'test', name: 'test', version: '1.2.3', logger })
    await log.append(entries)
    await log.close()
  }

  async function read(since?: Date): Promise<{ ids: string[]; removed: Date[] }> {
    const ids: string[] = []
    const removed: Date[] = []
    await operator.readAudit({
      ...{ since, follow: false, signal: AbortSignal.timeout(60_000) },
      onEntry: ({ body }) => void ids.push(body.id),
      onRemoved: (before) => void removed.push(before),
    })
    return { ids, removed }
  }

  it('is read from its beginning to its end, as often as one likes', async () => {
    const all = Array.from({ length: 1_200 }, (_, index) => `e${index}`)
    await write(...all.map(auditEntry))
    expect(await read()).to.deep.equal({ ids: all, removed: [] })
    expect((await read()).ids).to.deep.equal(all)
  })

  it('gives an entry that was written twice once', async () => {
    await write(auditEntry('a'), auditEntry('b'))
    await write(auditEntry('b'), auditEntry('c'))
    expect((await read()).ids).to.deep.equal(['a', 'b', 'c'])
  })

  it('gets what is sound, whatever the contract does not allow beside it', async () => {
    const unsound = {
      ...auditEntry('unsound'),
      body: { ...auditEntry('unsound').body, at: 'yesterday' },
    } as AuditEntry
    await write(auditEntry('a'), unsound, auditEntry('b'))
    expect((await read()).ids).to.deep.equal(['a', 'b'])
  })

  it('is read from a time on, also when an entry was written long after it was made', async () => {
    const now = Date.now()
    const ago = (minutes: number): string => new Date(now - minutes * 60_000).toISOString()
    await write(entryAt('old', ago(300)), entryAt('late', ago(50)), entryAt('new', ago(1)))
    expect((await read(new Date(now - 3_600_000))).ids).to.deep.equal(['late', 'new'])
    expect((await read(new Date(now))).ids).to.deep.equal([])
  })

  it('is followed', async () => {
    await write(auditEntry('before'))
    const ids: string[] = []
    const stop = new AbortController()
    const following = operator.readAudit({
      ...{ follow: true, signal: stop.signal },
      onEntry: ({ body }) => void ids.push(body.id),
      onRemoved: () => {},
    })
    await poll(() => (ids.length === 1 ? true : undefined), {
      deadlineMs: 20_000,
      failure: () => 'nothing came',
    })
    await write(auditEntry('after'))
    await poll(() => (ids.length === 2 ? true : undefined), {
      deadlineMs: 20_000,
      failure: () => 'nothing more came',
    })
    expect(ids).to.deep.equal(['before', 'after'])
    stop.abort(new Error('enough'))
    expect(await following.catch((error: Error) => error.message)).to.equal('enough')
  })

  it('says when its beginning is gone, and from when on there is something', async () => {
    // As AUDIT, with segments so small that RabbitMQ removes some at once.
    const small = { 'x-max-length-bytes': 20_000, 'x-stream-max-segment-size-bytes': 4_000 }
    await raw.channel.assertQueue(AUDIT.name, { durable: true, arguments: { ...AUDIT.arguments, ...small } })
    await raw.channel.assertExchange(AUDIT_EXCHANGE.name, AUDIT_EXCHANGE.type)
    await raw.channel.bindQueue(AUDIT.name, AUDIT_EXCHANGE.name, '#')
    const start = Date.parse('2026-11-22T06:00:00.000Z')
    for (let index = 0; index < 400; index++) {
      const { type, body } = entryAt(`e${index}`, new Date(start + index * 1_000).toISOString())
      await raw.publish(AUDIT_EXCHANGE.name, 'x', JSON.stringify(body), { type, messageId: body.id })
    }
    const { ids, removed } = await poll(
      async () => {
        const found = await read()
        return found.ids.length < 400 ? found : undefined
      },
      { deadlineMs: 30_000, failure: () => 'RabbitMQ removes nothing' },
    )
    expect(ids.at(-1)).to.equal('e399')
    const first = Number(ids[0]?.slice(1))
    expect(removed).to.deep.equal([new Date(start + first * 1_000)])
    expect((await read(new Date(start + (first + 1) * 1_000))).removed).to.deep.equal([])
  })

  it('may be empty, or not be there', async () => {
    await raw.channel.assertQueue(AUDIT.name, { durable: true, arguments: AUDIT.arguments })
    expect(await read()).to.deep.equal({ ids: [], removed: [] })
    await raw.channel.deleteQueue(AUDIT.name)
    const error = await failure(read())
    expect(error).to.include({ code: 'unroutable' })
    expect(error.message).to.include('no coordinator has written one')
  })
})
