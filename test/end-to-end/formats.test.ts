/** Repositories other than pgBackRest's, from request to published instance: one Barman home, one directory of tar backups. */
import path from 'node:path'
import { expect } from 'chai'
import { type Barman, makeBarman } from '../support/barman.ts'
import { directoryDigest } from '../support/digest.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

describe('publishing from', function () {
  this.timeout(120_000)
  let production: Production
  let barman: Barman
  let fleet: Fleet
  let archives: string
  let failed = false

  before(async () => {
    production = await makeProduction({ configuration: 'outside' })
    barman = await makeBarman(production)
    await barman.backup('files')
    archives = path.join(production.directory, 'archives')
    await production.basebackup(path.join(archives, 'shop', 'monday'), ['-Ft', '--compress=server-zstd:1'])
    await production.writeNotes(100, 'after the backup')
    await production.switchWal()
    await barman.archiveWal()
    fleet = await startFleet({
      repositories: [
        { name: 'barman', format: 'barman', path: barman.home },
        { name: 'archives', format: 'basebackup', path: archives },
      ],
    })
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
  })

  async function published(repository: string, instance: string, notes: string): Promise<void> {
    const session = await fleet.publish('--repository', repository, '--instance', instance)
    expect(session).to.include({ state: 'published' })
    const ask = (query: string) => fleet.sql(session, query, production.database)
    expect(await ask('SELECT count(*) FROM notes')).to.equal(notes)
    expect(await ask('SELECT count(*), max(note) FROM archived_orders')).to.equal(
      await production.sql('SELECT count(*), max(note) FROM archived_orders', production.database),
    )
    await ask('UPDATE notes SET note = note || $$!$$; CHECKPOINT')
    await fleet.howdahJson('unpublish', session.id, '--yes')
  }

  it('Barman: a backup that rsync copied, with the WAL that came after it', async () => {
    const before = directoryDigest(barman.home)
    await published('barman', 'files', '1100')
    expect(directoryDigest(barman.home)).to.equal(before)
  })

  it('pg_basebackup: compressed tar archives with their own WAL', async () => {
    const before = directoryDigest(archives)
    await published('archives', 'shop', '1000')
    expect(directoryDigest(archives)).to.equal(before)
  })
})
