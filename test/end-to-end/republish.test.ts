import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { expect } from 'chai'
import type { CommandBody } from '../../messages/definitions.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type Traces, watchTraces } from '../support/traces.ts'

/** What PostgreSQL and the file system read ahead may differ from one publish to the next. */
const FEW_BLOCKS = 16 * 8192

describe('publishing again', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let traces: Traces
  let session: SessionView
  /** After the first hundred notes, before the second. */
  let between: string
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    await production.writeNotes(100, 'first')
    between = await production.sql(
      `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
    )
    await production.writeNotes(100, 'second')
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
    traces = await watchTraces(fleet)
    session = await publish({ settings: { work_mem: '7MB' } })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await traces?.close()
    await fleet?.remove(failed)
    await production?.remove()
  })

  async function publish(more: Partial<CommandBody<'instance.publish'>> = {}): Promise<SessionView> {
    const body = { repository: 'main', instance: production.stanza, target: 'db-7', ...more }
    const reply = await fleet.bus.request('instance.publish', body)
    if (!reply.accepted) throw new Error(reply.error.message)
    return fleet.untilState(reply.session, 'published')
  }

  /** @returns the id of the session that was published */
  async function republish(
    more: Omit<CommandBody<'session.republish'>, 'session'> = {},
  ): Promise<SessionView> {
    const reply = await fleet.bus.request('session.republish', { session: session.id, ...more })
    if (!reply.accepted) throw new Error(`${reply.error.code}: ${reply.error.message}`)
    return fleet.untilState(reply.session, 'published')
  }

  const code = async (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'accepted',
      (error: Error) => error.message.split(':')[0] ?? '',
    )

  const notes = (of: SessionView): Promise<string> =>
    fleet.sql(of, 'SELECT count(*) FROM notes', production.database)

  /** What was read from the mount server since it was published. */
  const fetchedBytes = async ({ id }: SessionView): Promise<number> => (await fleet.usage(id)).fetchedBytes

  async function closed(keepCache: boolean): Promise<SessionView> {
    traces.remember(session.id)
    const reply = await fleet.bus.request('session.unpublish', { session: session.id, keepCache })
    if (!reply.accepted) throw new Error(reply.error.message)
    return fleet.untilState(session.id, 'closed')
  }

  it('in place keeps session, port and settings, and fetches almost nothing again', async () => {
    const first = await fetchedBytes(session)
    expect(await notes(session)).to.equal('1200')
    const again = await republish()
    expect(again.id).to.equal(session.id)
    expect(again.connection).to.deep.equal(session.connection)
    expect(await notes(again)).to.equal('1200')
    expect(await fleet.sql(again, 'SHOW work_mem')).to.equal('7MB')
    const second = await fetchedBytes(again)
    console.log(`      fetched: ${first} bytes at first, ${second} when published again`)
    expect(first).to.be.greaterThan(1_000_000)
    expect(second).to.be.at.most(FEW_BLOCKS)
  })

  it('recovers to another point, and discards all earlier changes', async () => {
    await fleet.sql(session, 'DELETE FROM notes', production.database)
    const then = await republish({ recoverTo: { type: 'time', value: between }, discardChanges: true })
    expect(then.recoverTo).to.deep.equal({ type: 'time', value: between })
    expect(await notes(then)).to.equal('1100')
    const before = await republish({ recoverTo: { type: 'immediate' }, discardChanges: true })
    expect(await notes(before)).to.equal('1000')
    expect(before.connection).to.deep.equal(session.connection)
  })

  it('in place is refused while changes were not exported', async () => {
    await fleet.sql(session, 'CREATE TABLE mine (n int)', production.database)
    expect(await code(republish())).to.equal('changes_unexported')
    expect(await fleet.sql(session, 'SELECT count(*) FROM mine', production.database)).to.equal('0')
    expect((await fleet.show(session.id)).state).to.equal('published')
  })

  it('alongside creates another session on another port, and leaves the first one unchanged', async () => {
    const other = await republish({ alongside: true })
    expect(other.id).not.to.equal(session.id)
    expect(other.connection?.port).not.to.equal(session.connection?.port)
    expect(await notes(other)).to.equal('1200')
    expect(await fleet.sql(other, 'SHOW work_mem')).to.equal('7MB')
    expect(await fleet.sql(session, 'SELECT count(*) FROM mine', production.database)).to.equal('0')
    expect((await fetchedBytes(other)) - FEW_BLOCKS).to.be.at.most(0)
    await fleet.bus.request('session.unpublish', { session: other.id })
    await fleet.untilState(other.id, 'closed')
  })

  describe('a write cache that was kept', () => {
    let cache: string

    before(async () => {
      session = await republish({ discardChanges: true })
      cache = String(session.writeCache?.path)
      await fleet.sql(
        session,
        'CREATE TABLE kept AS SELECT generate_series(1, 5000) AS n',
        production.database,
      )
    })

    it('belongs to a closed session, of which no process runs', async () => {
      const view = await closed(true)
      expect(view.keptCache).to.equal(true)
      expect(view.undone?.join()).to.include(`kept the write cache ${cache}`)
      expect(existsSync(cache)).to.equal(true)
      expect(existsSync(String(session.mountPoint))).to.equal(false)
      expect(await code(traces.expectNone())).to.equal('left behind')
    })

    it('is not mistaken for a published session by an agent that restarts, and keeps its port reserved', async () => {
      await fleet.stop('target-agent')
      await fleet.start('target-agent')
      const other = await publish()
      expect(other.connection?.port).not.to.equal(session.connection?.port)
      expect((await fleet.show(session.id)).state).to.equal('closed')
      await fleet.bus.request('session.unpublish', { session: other.id })
      await fleet.untilState(other.id, 'closed')
    })

    it('is not overwritten by a republish', async () => {
      expect(await code(republish())).to.equal('changes_unexported')
    })

    it('is published again by a retry, although all fetched blocks are gone', async () => {
      rmSync(`${fleet.cacheRoot}/fetched`, { recursive: true })
      const reply = await fleet.bus.request('session.retry', { session: session.id })
      expect(reply.accepted).to.equal(true)
      const again = await fleet.untilState(session.id, 'published')
      expect(again.connection).to.deep.equal(session.connection)
      expect(await fleet.sql(again, 'SELECT sum(n) FROM kept', production.database)).to.equal('12502500')
      expect(await notes(again)).to.equal('1200')
      await fleet.sql(again, 'INSERT INTO kept VALUES (1)', production.database)
    })

    it('is reported as missing when it was removed, and not replaced by the backup', async () => {
      await closed(true)
      renameSync(cache, `${cache}.away`)
      await fleet.bus.request('session.retry', { session: session.id })
      const view = await fleet.untilState(session.id, 'disrupted')
      expect(view.error).to.deep.include({ code: 'cache_unusable' })
      expect(view.error?.message).to.include(cache).and.to.include(`howdah republish ${session.id}`)
      renameSync(`${cache}.away`, cache)
      await fleet.bus.request('session.retry', { session: session.id })
      await fleet.untilState(session.id, 'published')
    })

    it('is refused when a file with the changes, or with their metadata, is missing', async () => {
      const [some = ''] = readdirSync(`${cache}/files`)
      for (const path of ['journal.sqlite', 'conf/recovered', `files/${some}`]) {
        await closed(true)
        renameSync(`${cache}/${path}`, `${cache}.away`)
        await fleet.bus.request('session.retry', { session: session.id })
        const view = await fleet.untilState(session.id, 'disrupted')
        expect(view.error?.code, path).to.equal('cache_unusable')
        renameSync(`${cache}.away`, `${cache}/${path}`)
      }
      await fleet.bus.request('session.retry', { session: session.id })
      const again = await fleet.untilState(session.id, 'published')
      expect(await notes(again)).to.equal('1200')
    })

    it('is removed when the closed session is unpublished', async () => {
      await closed(true)
      await closed(false)
      expect(existsSync(cache)).to.equal(false)
      await traces.expectNone()
    })
  })
})
