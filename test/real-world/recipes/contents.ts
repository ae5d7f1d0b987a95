/** What clusters have in them after many years: odd objects, old transactions, page errors, other layouts. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { POSTGRES_BIN, runAs } from '../../support/postgres-cluster.ts'
import type { Cluster } from '../cluster.ts'
import { expectExported, expectFinding, expectWarnings } from '../expectations.ts'
import type { Scenario } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

/** Writes garbage into a page of a table while production is stopped, as a failing disk does. */
async function damagePage(production: Cluster, table: string, page: number): Promise<void> {
  const path = await production.sql(`SELECT pg_relation_filepath('${table}')`)
  await production.stop()
  const file = await open(join(production.dataDirectory, path), 'r+')
  try {
    await file.write('garbage', page * 8192 + 1000)
  } finally {
    await file.close()
  }
  await production.start()
}

/** Runs pg_resetwal on production, which is stopped for it. */
async function resetWal(bench: Workbench, production: Cluster, ...args: string[]): Promise<void> {
  await production.stop()
  await runAs(bench.account, join(POSTGRES_BIN, 'pg_resetwal'), [...args, '-D', production.dataDirectory])
  await production.start()
}

export const contents: readonly Scenario[] = [
  {
    name: 'unlogged tables are there and empty, and can be written',
    source: 'https://www.postgresql.org/docs/15/sql-createtable.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql('CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 1000) AS i')
      await bench.basebackup(production)
      await production.sql('CREATE UNLOGGED TABLE scratch2 AS SELECT generate_series(1, 1000) AS i')
      await production.switchWal()
      const session = await bench.publish()
      await bench.rows(session, 'INSERT INTO scratch VALUES (1); INSERT INTO scratch2 VALUES (1)')
      expect(await bench.rows(session, 'SELECT count(*) FROM scratch')).to.equal('1')
      expect(await bench.rows(session, 'SELECT count(*) FROM scratch2')).to.equal('1')
    },
  },
  {
    name: 'large objects are read and exported',
    source: 'https://www.postgresql.org/docs/15/largeobjects.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(`SELECT lo_from_bytea(4711, decode(repeat('42', 100000), 'hex')) \\g /dev/null`)
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT length(lo_get(4711))')).to.equal('100000')
      await bench.rows(session, 'SELECT lo_unlink(4711) \\g /dev/null')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'a prepared transaction that was left open still exists, and blocks only its table',
    source: 'https://www.postgresql.org/docs/15/sql-prepare-transaction.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster({ settings: { max_prepared_transactions: '5' } })
      await production.sql(`CREATE TABLE locked AS SELECT 1 AS i`)
      await production.sql(`BEGIN; DELETE FROM locked; LOCK TABLE locked; PREPARE TRANSACTION 'of 2019'`)
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT gid FROM pg_prepared_xacts')).to.equal('of 2019')
      await bench.rows(session, 'DELETE FROM t')
      expectExported(await bench.export(session, { databases: ['app'], tables: ['public.t'] }))
    },
  },
  {
    name: 'an export of a table that a prepared transaction has locked says what it waits for, and can be cancelled',
    source: 'https://www.postgresql.org/docs/15/sql-prepare-transaction.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster({ settings: { max_prepared_transactions: '5' } })
      await production.sql(`BEGIN; DELETE FROM t; LOCK TABLE t; PREPARE TRANSACTION 'of 2019'`)
      await bench.basebackup(production)
      const { fleet } = bench
      const { id } = await bench.publish()
      const destination = { type: 'directory' as const, path: bench.scratch }
      await fleet.bus.request('session.export', { session: id, databases: ['app'], destination })
      const latest = async () => (await fleet.show(id)).exports?.at(-1)
      await bench.untilTrue(
        async () => /of 2019|prepared transaction/.test(JSON.stringify(await latest())),
        'the export names what it waits for',
      )
      await fleet.bus.request('session.cancel', { session: id })
      await bench.untilTrue(async () => (await latest())?.status === 'cancelled', 'it is cancelled')
    },
  },
  {
    name: 'page errors that pgBackRest recorded are reported by the check and by the session',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/2687',
    share: 'ci',
    repository: 'pgbackrest',
    async run(bench) {
      const production = await bench.cluster()
      const tool = await bench.pgbackrest(production)
      await damagePage(production, 't', 1)
      await tool.backup()
      await bench.seal()
      expectFinding(await bench.check(), 'warning', /page/i)
      const session = await bench.publish()
      expectWarnings(session, /page/i)
      const inventory = await bench.fleet.bus.request('inventory.list', { repository: bench.repository })
      expect(JSON.stringify(inventory)).to.match(/page|error/i)
    },
  },
  {
    name: 'a damaged page of TOAST costs the rows that need it, and no others',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/2344',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `CREATE TABLE files (id int, body text); ALTER TABLE files ALTER body SET STORAGE EXTERNAL;
         INSERT INTO files SELECT i, repeat(md5(i::text), 500) FROM generate_series(1, 50) i; CHECKPOINT`,
      )
      const toast = await production.sql(
        `SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'files'`,
      )
      await damagePage(production, toast, 3)
      await bench.basebackup(production, 'full', '--no-verify-checksums')
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM files')).to.equal('50')
      const refused = await bench.rows(session, 'SELECT sum(length(body || id)) FROM files').catch(String)
      expect(refused).to.match(/invalid page/)
      expect(await bench.rows(session, 'SELECT length(body) FROM files WHERE id = 50')).to.equal('16000')
    },
  },
  {
    name: 'a cluster near the end of its transaction ids, in a late epoch and with high OIDs, is published and exported',
    source: 'https://www.postgresql.org/docs/15/app-pgresetwal.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await resetWal(bench, production, '-o', '4294000000', '-e', '7', '-x', '1048576')
      await production.sql('CREATE TABLE late AS SELECT 1 AS i')
      await bench.basebackup(production)
      await production.sql('INSERT INTO late VALUES (2)')
      await production.switchWal()
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT sum(i) FROM late')).to.equal('3')
      await bench.rows(session, 'DELETE FROM late')
      expect((await bench.fleet.show(session.id)).state).to.equal('published')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  ...(['1', '64'] as const).map(
    (megabytes): Scenario => ({
      name: `a cluster with WAL segments of ${megabytes} MB is published to the last row`,
      source: 'https://www.postgresql.org/docs/15/app-initdb.html',
      share: 'soak',
      async run(bench) {
        const production = await bench.cluster({
          initdb: [`--wal-segsize=${megabytes}`],
          settings: { min_wal_size: '128MB', max_wal_size: '256MB' },
        })
        await bench.basebackup(production)
        await production.sql('INSERT INTO t SELECT generate_series(1001, 20000)')
        await production.switchWal()
        const session = await bench.publish()
        expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('20000')
      },
    }),
  ),
  {
    name: 'a cluster without page checksums is published',
    source: 'https://www.postgresql.org/docs/15/checksums.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.stop()
      await runAs(bench.account, join(POSTGRES_BIN, 'pg_checksums'), [
        ...['--disable', '--no-sync', '-D', production.dataDirectory],
      ])
      await production.start()
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'a cluster that pg_upgrade made, with the OIDs of the old one, is published and exported',
    source: 'https://www.postgresql.org/docs/15/pgupgrade.html',
    share: 'soak',
    async run(bench) {
      const old = await bench.cluster({ name: 'old' })
      await old.sql('CREATE TABLE kept AS SELECT generate_series(1, 500) AS i; DROP TABLE t')
      const production = await bench.cluster({ initdb: ['--text-search-config=simple'] })
      await production.sql('DROP DATABASE app', 'postgres')
      for (const cluster of [old, production]) await cluster.stop()
      await runAs(
        bench.account,
        join(POSTGRES_BIN, 'pg_upgrade'),
        [
          ...[
            '-b',
            POSTGRES_BIN,
            '-B',
            POSTGRES_BIN,
            '-d',
            old.dataDirectory,
            '-D',
            production.dataDirectory,
          ],
          ...['-p', String(old.port), '-P', String(production.port), '-s', bench.scratch, '-U', 'postgres'],
        ],
        { cwd: bench.scratch },
      )
      await production.start()
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM kept')).to.equal('500')
      await bench.rows(session, 'DELETE FROM kept WHERE i > 100')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'a database in SQL_ASCII with bytes of three encodings is exported as it is',
    source: 'https://www.postgresql.org/docs/15/multibyte.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(`CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`)
      await production.sql(
        `CREATE TABLE names (name text);
         INSERT INTO names VALUES (E'K\\xf6ln'), (E'K\\xc3\\xb6ln'), (E'\\x81\\x8d')`,
        'ascii',
      )
      await production.sql(`CREATE TABLE "t\u00e4ble" AS SELECT 1 AS i`, 'ascii')
      await bench.basebackup(production)
      const session = await bench.publish()
      await bench.rows(session, 'DELETE FROM "t\u00e4ble"', 'ascii')
      expectExported(await bench.export(session, { databases: ['ascii'] }))
    },
  },
  {
    name: 'databases, roles and schemas with quotes, blanks, dollars and line feeds in their names are exported',
    source: 'https://www.postgresql.org/docs/15/sql-syntax-lexical.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const name = `O'Neil "dev" $x=1\\ %s -- ;`
      // psql takes a name with an equals sign for a connection string.
      const connect = `dbname='${name.replaceAll(/['\\]/g, '\\$&')}'`
      const quoted = `"${name.replaceAll('"', '""')}"`
      await production.sql(`CREATE DATABASE ${quoted}`)
      await production.sql(
        `CREATE SCHEMA ${quoted}; CREATE TABLE ${quoted}.${quoted} AS SELECT 1 AS i`,
        connect,
      )
      await bench.basebackup(production)
      const session = await bench.publish()
      await bench.rows(session, `DELETE FROM ${quoted}.${quoted}`, connect)
      expectExported(await bench.export(session, { databases: [name] }))
    },
  },
  {
    name: 'event triggers and triggers on everything neither stop an export nor run for it',
    source: 'https://www.postgresql.org/docs/15/event-triggers.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no DDL here'; END $$;
         CREATE EVENT TRIGGER forbid ON ddl_command_start EXECUTE FUNCTION forbid()`,
      )
      await bench.basebackup(production)
      const session = await bench.publish()
      await bench.rows(session, 'DELETE FROM t')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
]
