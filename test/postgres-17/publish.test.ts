/** Incremental backups published as PostgreSQL 17's own programs and Barman take them: the tables hold what they held then. */
import { expect } from 'chai'
import { makeBarman } from '../support/barman.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type Chains, DATABASE, INSTANCE, type Label, makeChains, PLAIN } from './chain.ts'
import { EVERY_CHANGE } from './every-change.ts'

const ORDERS = `SELECT count(*) || ':' || sum(hashtext(o::text)) FROM archived_orders o`

describe('publishing an incremental backup', function () {
  this.timeout(180_000)
  let made: Chains
  let production: Production
  let fleet: Fleet
  let incremental: string
  let failed = false

  before(async () => {
    made = await makeChains({ plain: PLAIN, archives: ['-Ft', '--compress=server-zstd:1'] }, EVERY_CHANGE)
    production = await makeProduction({ settings: { summarize_wal: 'on' } })
    const barman = await makeBarman(production)
    const parent = await barman.backup('streamed')
    await production.sql('DELETE FROM archived_orders WHERE id % 3 = 0; VACUUM archived_orders')
    incremental = await barman.backup('streamed', 'none', parent)
    await production.sql('UPDATE archived_orders SET note = id WHERE id < 100')
    await production.switchWal()
    await barman.archiveWal()
    fleet = await startFleet({
      repositories: [
        ...[...made.chains].map(([name, chain]) => ({
          ...{ name, format: 'basebackup' as const, path: chain.repository },
        })),
        { name: 'barman', format: 'barman', path: barman.home },
      ],
    })
  })
  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })
  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
    await made?.remove()
  })

  const backups: readonly (readonly [repository: string, label: Label])[] = [
    ['plain', 'full'],
    ['plain', 'monday'],
    ['plain', 'tuesday'],
    ['archives', 'tuesday'],
  ]
  for (const [repository, label] of backups) {
    it(`${label} of ${repository}`, async () => {
      const which = ['--repository', repository, '--instance', INSTANCE, '--backup', label]
      const session = await fleet.publish(...which, '--recover-to', 'immediate')
      expect(await fleet.sql(session, EVERY_CHANGE.select, DATABASE)).to.equal(made.rows[label])
      await fleet.howdahJson('unpublish', session.id, '--yes')
    })
  }

  it('of Barman, with the WAL that came after it', async () => {
    const session = await fleet.publish('--repository', 'barman', '--instance', 'streamed')
    expect(session.backup).to.equal(incremental)
    expect(await fleet.sql(session, ORDERS, production.database)).to.equal(await production.sql(ORDERS))
    await fleet.sql(
      session,
      'UPDATE archived_orders SET note = note || $$!$$; CHECKPOINT',
      production.database,
    )
    await fleet.howdahJson('unpublish', session.id, '--yes')
  })
})
