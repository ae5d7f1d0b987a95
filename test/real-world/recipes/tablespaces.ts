/** Tablespaces and databases that came, went and moved after the backup. None of it may touch production's directories. */
import { readlink, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { SessionView } from '../../../messages/values.ts'
import { expectExported } from '../expectations.ts'
import type { Scenario } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

const REPORT = 'https://github.com/cloudnative-pg/cloudnative-pg/issues/4407'

/** What `pg_tblspc` of a published instance links to. */
async function tablespaceLinks(bench: Workbench, session: SessionView): Promise<string[]> {
  const names = await bench.rows(session, `SELECT oid FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1`)
  const directory = join(session.mountPoint ?? '', 'data/pg_tblspc')
  return Promise.all(
    names
      .split('\n')
      .filter(Boolean)
      .map((name) => readlink(join(directory, name))),
  )
}

async function makeTablespace(
  production: { sql(text: string, database?: string): Promise<string> },
  location: string,
): Promise<void> {
  await production.sql(`CREATE TABLESPACE ts2 LOCATION '${location}'`)
  await production.sql('CREATE TABLE t2 TABLESPACE ts2 AS SELECT generate_series(1, 1000) AS i')
}

/** Changes, drops and makes again what lies in the tablespace of the published instance. */
async function useTablespace(bench: Workbench, session: SessionView): Promise<void> {
  expect(await bench.rows(session, 'SELECT count(*), sum(i) FROM t2')).to.equal('1000|500500')
  await bench.rows(session, 'UPDATE t2 SET i = -i; CHECKPOINT')
  await bench.rows(session, 'DROP TABLE t2')
  await bench.rows(session, 'DROP TABLESPACE ts2')
}

export const tablespaces: readonly Scenario[] = [
  {
    name: 'a tablespace created after the backup lies in the session, and production beside it keeps every byte',
    source: REPORT,
    share: 'ci',
    async run(bench) {
      const location = await bench.place('ts2')
      const production = await bench.cluster()
      await bench.basebackup(production)
      await makeTablespace(production, location)
      await production.switchWal()
      await production.sql('CHECKPOINT')
      const session = await bench.publish()
      for (const target of await tablespaceLinks(bench, session)) {
        expect(target.startsWith(bench.directory), target).to.equal(false)
      }
      await useTablespace(bench, session)
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'a tablespace created after the backup, whose directory this machine does not have, is published',
    source: REPORT,
    share: 'ci',
    async run(bench) {
      const location = await bench.place('ts2')
      const production = await bench.cluster()
      await bench.basebackup(production)
      await makeTablespace(production, location)
      await production.switchWal()
      await bench.seal()
      await rm(location, { recursive: true })
      await bench.seal({ again: true })
      expect((await bench.check()).findings.filter(({ level }) => level === 'error')).to.deep.equal([])
      await useTablespace(bench, await bench.publish())
    },
  },
  {
    name: 'a database made by file copy in a tablespace created after the backup leaves the running production alone',
    source: REPORT,
    share: 'ci',
    async run(bench) {
      bench.keepRunning()
      const location = await bench.place('ts2')
      const production = await bench.cluster({ settings: { archive_timeout: '0' } })
      await bench.basebackup(production)
      await production.sql(`CREATE TABLESPACE ts2 LOCATION '${location}'`)
      await production.sql('CREATE DATABASE d TABLESPACE ts2 STRATEGY file_copy')
      await production.sql('CREATE TABLE big AS SELECT generate_series(1, 5000) AS i', 'd')
      await production.switchWal()
      await production.sql('INSERT INTO big SELECT generate_series(5001, 9000); CHECKPOINT', 'd')
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM big', 'd')).to.equal('5000')
      await bench.rows(session, 'DELETE FROM big; VACUUM big; CHECKPOINT', 'd')
      expect(await production.sql('SELECT count(*) FROM big', 'd')).to.equal('9000')
      await production.stop()
      await production.start()
      expect(await production.sql('SELECT count(*) FROM big', 'd')).to.equal('9000')
      await bench.unpublish(session)
      await production.stop()
      await production.start()
      expect(await production.sql('SELECT count(*) FROM big', 'd')).to.equal('9000')
    },
  },
  {
    name: 'a tablespace of the backup that was dropped, and its directory used by another, is not confused with that',
    source: REPORT,
    share: 'soak',
    async run(bench) {
      const location = await bench.place('ts2')
      const production = await bench.cluster()
      await makeTablespace(production, location)
      const mapped = join(bench.directory, 'repository/main/full.tblspc')
      await bench.basebackup(production, 'full', '-T', `${location}=${mapped}`)
      await production.sql('DROP TABLE t2')
      await production.sql('DROP TABLESPACE ts2')
      await production.sql(`CREATE TABLESPACE ts3 LOCATION '${location}'`)
      await production.sql('CREATE TABLE t3 TABLESPACE ts3 AS SELECT generate_series(1, 300) AS i')
      await production.switchWal()
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t3')).to.equal('300')
      await bench.rows(session, 'INSERT INTO t3 VALUES (0); CHECKPOINT')
    },
  },
  {
    name: 'a table that moved into another tablespace after the backup, and the database after it, are where they belong',
    source: REPORT,
    share: 'soak',
    async run(bench) {
      const [first, second] = [await bench.place('ts1'), await bench.place('ts 2, the new one')]
      const production = await bench.cluster()
      await production.sql(`CREATE TABLESPACE ts1 LOCATION '${first}'`)
      const mapped = join(bench.directory, 'repository/main/full.tblspc')
      await bench.basebackup(production, 'full', '-T', `${first}=${mapped}`)
      await production.sql(`CREATE TABLESPACE "ts 2" LOCATION '${second}'`)
      await production.sql('ALTER TABLE t SET TABLESPACE ts1')
      await production.sql('ALTER DATABASE app SET TABLESPACE "ts 2"', 'postgres')
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1001')
      await bench.rows(session, 'UPDATE t SET i = 0; CHECKPOINT')
      await bench.rows(session, 'ALTER DATABASE app SET TABLESPACE pg_default', 'postgres')
      expect(await bench.rows(session, 'SELECT count(*) FROM t WHERE i = 0')).to.equal('1001')
    },
  },
  {
    name: 'locations of tablespaces with blanks, double quotes and an equals sign in their names are published',
    source: 'https://www.postgresql.org/docs/15/app-pgbasebackup.html',
    share: 'soak',
    async run(bench) {
      const location = await bench.place('old = "data" of Jim')
      const production = await bench.cluster()
      await makeTablespace(production, location)
      await production.sql('CREATE DATABASE beside TABLESPACE ts2')
      const mapped = join(bench.directory, 'repository/main/full.tblspc')
      await bench.basebackup(production, 'full', '-T', `${location.replaceAll('=', '\\=')}=${mapped}`)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t2')).to.equal('1000')
      await bench.rows(session, 'DROP TABLE t2; CHECKPOINT')
    },
  },
  {
    name: "a tablespace inside production's data directory is published from pgBackRest",
    source: 'https://github.com/pgbackrest/pgbackrest/issues/1539',
    share: 'soak',
    repository: 'pgbackrest',
    async run(bench) {
      const production = await bench.cluster()
      const location = await bench.place('production/data/extra_space')
      await production.sql(`SET client_min_messages = error; CREATE TABLESPACE ts2 LOCATION '${location}'`)
      await production.sql('CREATE TABLE t2 TABLESPACE ts2 AS SELECT generate_series(1, 1000) AS i')
      const tool = await bench.pgbackrest(production)
      // pgBackRest refuses a tablespace in PGDATA; a cluster that has one is backed up by the others.
      const outcome = await tool.backup().catch((error: Error) => error)
      if (outcome instanceof Error) return
      await useTablespace(bench, await bench.publish())
    },
  },
  {
    name: "a tablespace inside production's data directory is published from pg_basebackup, once and not twice",
    source: 'https://www.postgresql.org/docs/15/sql-createtablespace.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const location = await bench.place('production/data/extra_space')
      await production.sql(`SET client_min_messages = error; CREATE TABLESPACE ts2 LOCATION '${location}'`)
      await production.sql('CREATE TABLE t2 TABLESPACE ts2 AS SELECT generate_series(1, 1000) AS i')
      const mapped = join(bench.directory, 'repository/main/full.tblspc')
      await bench.basebackup(production, 'full', '-T', `${location}=${mapped}`)
      await production.sql('INSERT INTO t2 VALUES (0)')
      await production.sql('DELETE FROM t2 WHERE i = 0')
      await production.switchWal()
      await useTablespace(bench, await bench.publish())
    },
  },
  {
    name: 'a tablespace in place, created after the backup, is published',
    source: 'https://www.postgresql.org/docs/15/runtime-config-developer.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production)
      await production.sql(`SET allow_in_place_tablespaces = on; CREATE TABLESPACE ts2 LOCATION ''`)
      await production.sql('CREATE TABLE t2 TABLESPACE ts2 AS SELECT generate_series(1, 1000) AS i')
      await production.switchWal()
      await useTablespace(bench, await bench.publish())
    },
  },
  {
    name: 'databases created by either strategy, renamed and dropped after the backup are as production has them',
    source: 'https://www.postgresql.org/docs/15/sql-createdatabase.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql('CREATE DATABASE gone TEMPLATE app STRATEGY wal_log', 'postgres')
      await bench.basebackup(production)
      await production.sql('DROP DATABASE gone')
      await production.sql('CREATE DATABASE copied TEMPLATE app STRATEGY file_copy', 'postgres')
      await production.sql('CREATE DATABASE logged TEMPLATE app STRATEGY wal_log', 'postgres')
      await production.sql('ALTER DATABASE copied RENAME TO "copied again"')
      await production.sql('DELETE FROM t WHERE i > 10', 'logged')
      await production.switchWal()
      const session = await bench.publish()
      const names = await bench.rows(
        session,
        'SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1',
      )
      expect(names.split('\n')).to.deep.equal(['app', 'copied again', 'logged', 'postgres'])
      expect(await bench.rows(session, 'SELECT count(*) FROM t', 'copied again')).to.equal('1000')
      expect(await bench.rows(session, 'SELECT count(*) FROM t', 'logged')).to.equal('10')
    },
  },
]
