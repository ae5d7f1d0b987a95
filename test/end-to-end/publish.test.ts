import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import type { SessionView } from '../../messages/values.ts'
import { directoryDigest } from '../support/digest.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { POSTGRES_BIN } from '../support/installed-postgres.ts'
import { FIXTURE_BINARIES } from '../support/postgres-majors.ts'
import { makeProduction, type Production } from '../support/production.ts'

const FIXTURES = fileURLToPath(new URL('../../../shared/fixtures/', import.meta.url))

describe('publishing', function () {
  this.timeout(120_000)

  describe('the fixture plain-gz-incr', () => {
    let directory = ''
    let fleet: Fleet
    let failed = false

    before(async function () {
      const archive = path.join(FIXTURES, 'plain-gz-incr.tar.gz')
      // The fixtures lie beside a checkout, not in it.
      if (!existsSync(archive)) return this.skip()
      directory = await mkdtemp(path.join(tmpdir(), 'howdah-fixture-'))
      execFileSync('tar', ['xzf', archive, '-C', directory])
      const repository = {
        name: 'fixture',
        format: 'pgbackrest',
        path: path.join(directory, 'repo'),
      } as const
      fleet = await startFleet({
        repositories: [repository],
        target: { postgres: { binaryDirectories: FIXTURE_BINARIES } },
      })
    })

    afterEach(function () {
      failed ||= this.currentTest?.state === 'failed'
    })

    after(async () => {
      await fleet?.remove(failed)
      if (directory !== '') await rm(directory, { recursive: true, force: true })
    })

    it('leaves the repository unchanged, to the byte', async () => {
      const repository = path.join(directory, 'repo')
      const before = directoryDigest(repository)
      const session = await fleet.publish('--repository', 'fixture', '--instance', 'demo')
      await fleet.sql(
        session,
        'UPDATE orders SET note = note || $$!$$; VACUUM FULL orders; CHECKPOINT',
        'shop',
      )
      await fleet.howdahJson('unpublish', session.id, '--yes')
      expect(directoryDigest(repository)).to.equal(before)
    })

    it('fetches only what was read, reports how much that was, and fetches it once for all sessions', async () => {
      await rm(path.join(fleet.cacheRoot, 'fetched'), { recursive: true, force: true })
      const fetched: number[] = []
      for (let publishes = 0; publishes < 2; publishes++) {
        const { id } = await fleet.publish('--repository', 'fixture', '--instance', 'demo')
        const { totalBytes, fetchedBytes } = await fleet.usage(id)
        expect(totalBytes).to.be.greaterThan(20_000_000)
        expect(fetchedBytes).to.be.lessThan(totalBytes / 2)
        fetched.push(fetchedBytes)
        await fleet.howdahJson('unpublish', id, '--yes')
      }
      const [first = 0, second = 0] = fetched
      expect(first).to.be.greaterThan(0)
      expect(second).to.be.lessThan(first / 2)
    })
  })

  describe('a production of its own', () => {
    let production: Production
    let fleet: Fleet
    let session: SessionView
    let backups: string
    let failed = false

    before(async () => {
      production = await makeProduction({ compress: 'zst', bundle: true, configuration: 'outside' })
      await production.backup('full')
      await production.writeNotes(100, 'after the backup')
      await production.switchWal()
      backups = path.join(production.directory, 'basebackups')
      await production.basebackup(path.join(backups, 'shop', 'monday'))
      fleet = await startFleet({
        repositories: [
          { name: 'main', format: 'pgbackrest', path: production.path },
          { name: 'plain', format: 'basebackup', path: backups },
        ],
      })
      session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
    })

    afterEach(function () {
      failed ||= this.currentTest?.state === 'failed'
    })

    after(async () => {
      await fleet?.remove(failed)
      await production?.remove()
    })

    it('is promoted and writable, with the rows written after the backup', async () => {
      expect(await fleet.sql(session, 'SELECT pg_is_in_recovery()')).to.equal('f')
      expect(await fleet.sql(session, 'SELECT count(*) FROM notes', production.database)).to.equal('1100')
      await fleet.sql(
        session,
        'CREATE TABLE mine AS SELECT generate_series(1, 1000) AS n',
        production.database,
      )
      expect(await fleet.sql(session, 'SELECT sum(n) FROM mine', production.database)).to.equal('500500')
    })

    it('keeps every change in the write cache, and changes nothing in production', async () => {
      const change =
        'CREATE TABLE bulk AS SELECT n, repeat($$x$$, 500) AS t FROM generate_series(1, 20000) AS n'
      await fleet.sql(session, `${change}; CHECKPOINT`, production.database)
      const du = execFileSync('du', ['-s', '--block-size=1', session.writeCache?.path ?? ''], {
        encoding: 'utf8',
      })
      expect(Number(du.split('\t')[0])).to.be.greaterThan(10_000_000)
      expect(await production.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'bulk'")).to.equal('0')
    })

    it('neither archives nor replicates', async () => {
      const settings = [
        'archive_mode',
        'archive_command',
        'primary_conninfo',
        'max_logical_replication_workers',
      ]
      const shown = await Promise.all(settings.map((name) => fleet.sql(session, `SHOW ${name}`)))
      expect(shown).to.deep.equal(['off', '(disabled)', '', '0'])
      const before = directoryDigest(production.path)
      await fleet.sql(session, 'SELECT pg_switch_wal(); CHECKPOINT')
      expect(directoryDigest(production.path)).to.equal(before)
    })

    it('serves psql, pg_dump and pgbench', async () => {
      const { host, port, user } = session.connection ?? { host: '', port: 0, user: '' }
      const where = ['-h', host, '-p', String(port), '-U', user]
      const dump = execFileSync('pg_dump', [...where, '--schema-only', production.database], {
        encoding: 'utf8',
      })
      expect(dump).to.include('PostgreSQL database dump complete')
      const bench = execFileSync(
        `${POSTGRES_BIN}/pgbench`,
        [...where, '-n', '-t', '50', production.database],
        {
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      )
      expect(bench).to.match(/number of transactions actually processed: 50\/50/)
    })

    it('runs beside another session of the same backup, independently of it', async () => {
      const other = await fleet.publish('--repository', 'main', '--instance', production.stanza)
      expect(other.connection?.port).not.to.equal(session.connection?.port)
      await fleet.sql(other, 'TRUNCATE notes', production.database)
      expect(await fleet.sql(session, 'SELECT count(*) FROM notes', production.database)).to.equal('1100')
      await fleet.howdahJson('unpublish', other.id, '--yes')
    })

    it('is published from a pg_basebackup directory with its own WAL', async () => {
      const plain = await fleet.publish('--repository', 'plain', '--instance', 'shop', '--backup', 'monday')
      expect(await fleet.sql(plain, 'SELECT count(*) FROM notes', production.database)).to.equal('1100')
      expect(await fleet.sql(plain, 'SELECT count(*) FROM archived_orders', production.database)).to.match(
        /^\d+$/,
      )
      await fleet.howdahJson('unpublish', plain.id, '--yes')
    })

    it('leaves nothing behind when it is unpublished', async () => {
      const { id, connection } = await fleet.publish('--repository', 'main', '--instance', production.stanza)
      const gone = await fleet.howdahJson<SessionView>('unpublish', id, '--yes')
      expect(gone.state).to.equal('closed')
      const found = (command: string): string =>
        execFileSync('sh', ['-c', `${command} || true`], { encoding: 'utf8' })
      expect(found(`grep ${id} /proc/self/mounts`)).to.equal('')
      expect(found(`find ${fleet.mountRoot} ${fleet.cacheRoot} -name '*${id}*'`)).to.equal('')
      expect(found(`pgrep -fa '[${id.slice(0, 1)}]${id.slice(1)}'`)).to.equal('')
      expect(found(`ss -Hltn 'sport = :${connection?.port}'`)).to.equal('')
    })
  })
})
