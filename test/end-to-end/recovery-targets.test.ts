import { expect } from 'chai'
import type { RecoverTo, SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

/** One transaction of production: a row in `steps` with its number, and a restore point `step-<number>` after it. */
interface Step {
  readonly xid: string
  /** Where its commit begins. */
  readonly lsn: string
  /** Of its commit, to the microsecond. */
  readonly time: string
}

describe('recovery targets', function () {
  this.timeout(120_000)
  let production: Production
  let fleet: Fleet
  let failed = false
  const steps: Step[] = []

  before(async () => {
    production = await makeProduction({
      compress: 'zst',
      tablespace: false,
      settings: { track_commit_timestamp: 'on' },
    })
    await production.sql('CREATE TABLE steps (number int)')
    await production.backup('full')
    for (const number of [1, 2, 3]) steps.push(await makeStep(number))
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
  })

  async function makeStep(number: number): Promise<Step> {
    const [xid = '', lsn = ''] = (
      await production.sql(
        `BEGIN; INSERT INTO steps VALUES (${number}); SELECT txid_current(), pg_current_wal_insert_lsn(); COMMIT`,
      )
    ).split('|')
    const time = await production.sql(
      `SELECT to_char(pg_xact_commit_timestamp('${xid}'::xid) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
    )
    await production.sql(`SELECT pg_create_restore_point('step-${number}')`)
    return { xid, lsn, time }
  }

  const step = (number: number): Step => steps[number - 1] ?? { xid: '', lsn: '', time: '' }

  async function publish(
    recoverTo: RecoverTo,
    afterRecovery: 'promote' | 'pause' = 'promote',
  ): Promise<SessionView> {
    const reply = await fleet.bus.request('instance.publish', {
      repository: 'main',
      instance: production.stanza,
      target: 'db-7',
      recoverTo,
      afterRecovery,
    })
    if (!reply.accepted) throw new Error(reply.error.message)
    return fleet.untilState(reply.session, 'published')
  }

  const unpublish = ({ id }: SessionView) => fleet.howdahJson('unpublish', id, '--yes')
  const numbers = (session: SessionView) =>
    fleet.sql(
      session,
      "SELECT coalesce(string_agg(number::text, ',' ORDER BY number), '') FROM steps",
      production.database,
    )

  async function advance({ id }: SessionView, recoverTo: RecoverTo): Promise<SessionView> {
    const reply = await fleet.bus.request('session.advance', { session: id, recoverTo })
    if (!reply.accepted) throw new Error(reply.error.message)
    return fleet.untilState(id, 'published')
  }

  async function promote({ id }: SessionView): Promise<SessionView> {
    const reply = await fleet.bus.request('session.promote', { session: id })
    if (!reply.accepted) throw new Error(reply.error.message)
    return fleet.untilState(id, 'published')
  }

  const cases: readonly (readonly [string, () => RecoverTo, string])[] = [
    ['immediate: the end of the backup', () => ({ type: 'immediate' }), ''],
    ['a time, with what was committed at it', () => ({ type: 'time', value: step(2).time }), '1,2'],
    [
      'a time, without what was committed at it',
      () => ({ type: 'time', value: step(2).time, inclusive: false }),
      '1',
    ],
    ['a transaction', () => ({ type: 'xid', value: step(2).xid }), '1,2'],
    ['before a transaction', () => ({ type: 'xid', value: step(2).xid, inclusive: false }), '1'],
    ['an LSN, with its record', () => ({ type: 'lsn', value: step(2).lsn }), '1,2'],
    ['an LSN, without its record', () => ({ type: 'lsn', value: step(2).lsn, inclusive: false }), '1'],
    ['a restore point, on a timeline', () => ({ type: 'name', value: 'step-2', timeline: 1 }), '1,2'],
  ]
  for (const [what, recoverTo, expected] of cases) {
    it(`reaches ${what}`, async () => {
      const session = await publish(recoverTo())
      expect(await numbers(session)).to.equal(expected)
      await fleet.sql(session, 'INSERT INTO steps VALUES (9)', production.database)
      await unpublish(session)
    })
  }

  it('pauses at a target, advances to a later one, and is promoted there', async () => {
    const session = await publish({ type: 'name', value: 'step-1' }, 'pause')
    expect(session.paused).to.have.keys('lsn', 'lastCommit')
    expect(await numbers(session)).to.equal('1')
    const written = fleet.sql(session, 'INSERT INTO steps VALUES (9)', production.database)
    expect(await written.catch((error: Error) => error.message)).to.include('read-only transaction')

    const later = await advance(session, { type: 'xid', value: step(2).xid })
    expect(later.paused?.lsn).not.to.equal(session.paused?.lsn)
    expect(await numbers(session)).to.equal('1,2')

    const promoted = await promote(session)
    expect(promoted.paused).to.equal(undefined)
    await fleet.sql(session, 'INSERT INTO steps VALUES (9)', production.database)
    expect(await numbers(session)).to.equal('1,2,9')
    await unpublish(session)
  })

  it('refuses a target before its position or beyond the archive, and stays paused', async () => {
    const session = await publish({ type: 'name', value: 'step-2' }, 'pause')
    const pid = () => fleet.sql(session, "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)")
    const before = await pid()
    const targets: RecoverTo[] = [
      { type: 'lsn', value: step(1).lsn },
      { type: 'name', value: 'never-made' },
    ]
    for (const target of targets) {
      const after = await advance(session, target)
      expect(after.paused).to.deep.equal(session.paused)
      expect(after.warnings.join(' ')).to.include(`${target.type} ${target.value}`)
      expect(after.recoverTo).to.deep.equal({ type: 'name', value: 'step-2' })
    }
    expect(await pid()).to.equal(before)
    expect(await numbers(await promote(session))).to.equal('1,2')
    await unpublish(session)
  })

  it('pauses at the end of the archive, stays paused across a restart of the agent, and is promoted by the next one', async () => {
    const session = await publish({ type: 'latest' }, 'pause')
    expect(await numbers(session)).to.equal('1,2,3')
    await fleet.stop('target-agent', 'SIGKILL')
    await fleet.start('target-agent')
    expect((await fleet.show(session.id)).paused).to.deep.equal(session.paused)
    await promote(session)
    await fleet.sql(session, 'INSERT INTO steps VALUES (9)', production.database)
    expect(await numbers(session)).to.equal('1,2,3,9')
    await unpublish(session)
  })
})
