import { expect } from 'chai'
import type { CommandBody, EventBody } from '../../messages/definitions.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type Traces, watchTraces } from '../support/traces.ts'

const MIB = 1024 * 1024
const LIMIT = 512 * MIB
/** The step in which WAL grows: of each session a segment. */
const SLACK = 32 * MIB

describe('the limits that an operator sets', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let traces: Traces
  let shortLived: SessionView
  let other: SessionView
  const warnings: EventBody<'session.warning'>[] = []
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      target: { limits: { sessions: 2, cacheBytes: LIMIT }, cache: { reserveBytes: '16 MiB' } },
    })
    await fleet.bus.watchEvents('session.*.warning', ({ type, body }) => {
      if (type === 'session.warning') warnings.push(body)
    })
    traces = await watchTraces(fleet)
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await traces?.close()
    await fleet?.remove(failed)
    await production?.remove()
  })

  const ask = (more: Partial<CommandBody<'instance.publish'>> = {}) =>
    fleet.bus.request('instance.publish', {
      repository: 'main',
      instance: production.stanza,
      target: 'db-7',
      ...more,
    })

  async function publish(more: Partial<CommandBody<'instance.publish'>> = {}): Promise<SessionView> {
    const reply = await ask(more)
    if (!reply.accepted) throw new Error(reply.error.message)
    const session = await fleet.untilState(reply.session, 'published')
    traces.remember(session.id)
    return session
  }

  async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
    const deadline = Date.now() + 60_000
    for (;;) {
      const found = await look()
      if (found !== undefined) return found
      if (Date.now() > deadline) throw new Error(`not so after 60 s: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  const cacheBytes = async (): Promise<number> => {
    const views = await Promise.all([shortLived, other].map(({ id }) => fleet.show(id)))
    return views.reduce((sum, { usage }) => sum + (usage?.cacheBytes ?? 0), 0)
  }

  /** Commits rows of 8 MiB. @returns how PostgreSQL refused, if it did */
  const fill = (session: SessionView): Promise<string> =>
    fleet
      .sql(
        session,
        `\\set VERBOSITY verbose
         CREATE TABLE IF NOT EXISTS filler (n int, t text);
         ALTER TABLE filler ALTER t SET STORAGE PLAIN;
         INSERT INTO filler SELECT n, repeat($$x$$, 1900) FROM generate_series(1, 4096) AS n;`,
        production.database,
      )
      .then(
        () => '',
        (error: Error) => error.message,
      )

  it('are reported by the agent', async () => {
    const reply = await fleet.bus.request('agent.list', {})
    if (!reply.accepted) throw new Error(reply.error.message)
    const target = reply.agents.find(({ kind }) => kind === 'target')
    expect(target?.limits).to.deep.equal({ sessions: 2, cacheBytes: LIMIT })
  })

  it('bound the number of sessions on a target', async () => {
    ;[shortLived, other] = await Promise.all([publish({ expiresIn: 3600 }), publish()])
    const reply = await ask()
    expect(reply).to.deep.include({ accepted: false })
    expect(!reply.accepted && reply.error).to.include({ code: 'limit_reached', field: 'target' })
  })

  it('bound the WAL of each session', async () => {
    expect(await fleet.sql(other, 'SHOW max_wal_size', production.database)).to.equal('64MB')
  })

  it('bound the total of all write caches of a target while they grow', async () => {
    const refused = await until('PostgreSQL refuses', async () => {
      const [one, two] = await Promise.all([fill(shortLived), fill(other)])
      return one || two || undefined
    })
    expect(refused).to.match(/53100.*No space left on device/s)
    // Neither has the other's share.
    for (let turn = 0; turn < 4; turn++) await Promise.all([fill(shortLived), fill(other)])
    const taken = await until('both reported their usage', async () => {
      const bytes = await cacheBytes()
      return bytes > LIMIT / 2 ? bytes : undefined
    })
    console.log(`      ${Math.round(taken / MIB)} MiB of ${LIMIT / MIB} are taken`)
    expect(taken).to.be.at.most(LIMIT + SLACK)
    expect(await fleet.sql(other, 'SELECT count(*) FROM notes', production.database)).to.equal('1000')
  })

  it('are kept by WAL that is written to a full cache, as soon as PostgreSQL has removed what a checkpoint covers', async () => {
    for (let count = 0; count < 32; count++) {
      await fleet.sql(
        other,
        "SELECT pg_logical_emit_message(false, 'test', repeat('x', 8 * 1024 * 1024))",
        production.database,
      )
    }
    await until('WAL is within the limit', async () =>
      (await cacheBytes()) <= LIMIT + SLACK ? true : undefined,
    )
  })

  it('pass the share of a session that ends on to the other', async () => {
    await fleet.sql(shortLived, 'DROP TABLE filler; CHECKPOINT', production.database)
    await until('there is room', async () => ((await fill(other)) === '' ? true : undefined))
  })

  it('end a session when its time is over, after warnings, unless it is extended before', async () => {
    const before = await fleet.show(shortLived.id)
    expect(Date.parse(String(before.expiresAt)) - Date.parse(before.createdAt)).to.equal(3_600_000)
    const reply = await fleet.bus.request('session.extend', { session: shortLived.id, expiresIn: 24 })
    expect(reply.accepted).to.equal(true)
    const warning = await until('a warning', () =>
      warnings.find(({ session, about }) => session === shortLived.id && about === 'expiry'),
    )
    expect(warning.message).to.include('howdah extend')
    expect((await fleet.show(shortLived.id)).warnings).to.include(warning.message)
    const closed = await fleet.untilState(shortLived.id, 'closed')
    expect(closed.warnings.join()).to.include('expired at')
    expect((await fleet.show(other.id)).state).to.equal('published')
  })

  it('admit the next session when one has ended', async () => {
    const next = await publish()
    for (const { id } of [next, other]) {
      await fleet.bus.request('session.unpublish', { session: id })
      await fleet.untilState(id, 'closed')
    }
    await traces.expectNone()
  })
})
