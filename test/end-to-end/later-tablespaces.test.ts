/** Tablespaces that production created, moved or dropped after the backup, beside the production that has them. */
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readdir, readlink, rm } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import { directoryDigest } from '../support/digest.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { type Account, postgresAccount } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'

describe('tablespaces created after the backup', function () {
  this.timeout(180_000)
  let production: Production
  let fleet: Fleet
  let account: Account
  /** Where locations of production are: in a tree that instances see, and in one that they do not. */
  let outside: readonly string[]
  let failed = false

  before(async () => {
    production = await makeProduction({ tablespace: true, settings: { autovacuum: 'off' } })
    account = await postgresAccount()
    outside = [await mkdtemp('/opt/howdah-later-'), await mkdtemp('/srv/howdah-later-')]
    for (const directory of outside) await chown(directory, account.uid, account.gid)
    for (const name of ['kept', 'copied', 'dropped', 'gone']) {
      await mkdir(place(name))
      await chown(place(name), account.uid, account.gid)
      await chmod(place(name), 0o700)
    }
    await production.backup('full')
    await production.sql(`CREATE TABLESPACE kept LOCATION '${place('kept')}'`)
    await production.sql(
      'CREATE TABLE later TABLESPACE kept AS SELECT g AS i FROM generate_series(1, 1000) g',
    )
    await production.sql(`CREATE TABLESPACE copied LOCATION '${place('copied')}'`)
    await production.sql(
      'CREATE DATABASE copy_of_shop TEMPLATE template0 TABLESPACE copied STRATEGY file_copy',
    )
    await production.sql('CREATE DATABASE logged TABLESPACE copied STRATEGY wal_log')
    await production.sql('CREATE TABLE rows AS SELECT g AS i FROM generate_series(1, 500) g', 'copy_of_shop')
    // The same location twice, one tablespace after the other.
    await production.sql(`CREATE TABLESPACE first_there LOCATION '${place('dropped')}'`)
    await production.sql('CREATE TABLE going TABLESPACE first_there AS SELECT 1 AS i')
    await production.sql('DROP TABLE going')
    await production.sql('DROP TABLESPACE first_there')
    await production.sql(`CREATE TABLESPACE then_there LOCATION '${place('dropped')}'`)
    await production.sql(
      'CREATE TABLE came TABLESPACE then_there AS SELECT g AS i FROM generate_series(1, 77) g',
    )
    // The backup's own tablespace goes; the directory of another one no longer exists when it is replayed.
    await production.sql(`CREATE TABLESPACE gone LOCATION '${place('gone')}'`)
    await production.sql('CREATE TABLE lost TABLESPACE gone AS SELECT g AS i FROM generate_series(1, 10) g')
    await production.switchWal()
    // Not in the archive: what a replay into production's files would undo.
    await production.sql('INSERT INTO later SELECT g FROM generate_series(1001, 9000) g')
    await production.sql('CHECKPOINT')
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
    for (const directory of outside ?? []) await rm(directory, { recursive: true, force: true })
  })

  function place(name: string): string {
    return path.join(outside[name === 'kept' || name === 'gone' ? 0 : 1] ?? '', name)
  }

  const contents = () => outside.map(directoryDigest)

  async function links(session: SessionView): Promise<string[]> {
    const directory = path.join(fleet.mountRoot, session.id, 'data/pg_tblspc')
    return Promise.all((await readdir(directory)).map((name) => readlink(path.join(directory, name))))
  }

  it('publishes them with their rows, and leaves production as it is', async () => {
    const before = contents()
    const session = await fleet.publish('--repository', 'main', '--instance', 'shop')
    expect(await fleet.sql(session, 'SELECT count(*) FROM later', 'shop')).to.equal('1000')
    expect(await fleet.sql(session, 'SELECT count(*) FROM rows', 'copy_of_shop')).to.equal('500')
    expect(await fleet.sql(session, 'SELECT count(*) FROM came', 'shop')).to.equal('77')
    expect(await fleet.sql(session, 'SELECT count(*) FROM lost', 'shop')).to.equal('10')
    expect(await fleet.sql(session, 'SELECT 1', 'logged')).to.equal('1')
    await fleet.sql(session, 'DELETE FROM later; DROP TABLE came; CHECKPOINT', 'shop')
    await fleet.sql(session, 'DROP TABLESPACE then_there', 'shop')
    await fleet.sql(session, 'DROP DATABASE logged', 'postgres')

    for (const target of await links(session))
      expect(target).to.match(/^(\.\.\/\.\.\/tblspc\/|.*\/mnt\/[^/]+\/tblspc\/)/)
    expect(contents()).to.deep.equal(before)

    await fleet.howdahJson('unpublish', session.id, '--yes')
    expect(contents()).to.deep.equal(before)
    await production.stop('fast')
    await production.start()
    expect(await production.sql('SELECT count(*) FROM later')).to.equal('9000')
  })

  it('publishes them where their locations do not exist', async () => {
    await production.stop('fast')
    for (const directory of outside) await rm(directory, { recursive: true })
    const session = await fleet.publish('--repository', 'main', '--instance', 'shop')
    expect(await fleet.sql(session, 'SELECT count(*) FROM later', 'shop')).to.equal('9000')
    expect(outside.filter((directory) => existsSync(directory))).to.deep.equal([])
    await fleet.howdahJson('unpublish', session.id, '--yes')
  })
})
