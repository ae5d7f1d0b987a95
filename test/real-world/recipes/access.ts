/** Who may log in, and into what: superusers of other names, passwords of older kinds, databases that are closed. */
import { expect } from 'chai'
import pg from 'pg'
import type { SessionView } from '../../../messages/values.ts'
import { expectExported, expectWarnings } from '../expectations.ts'
import type { Scenario } from '../scenario.ts'

/** Logs in over TCP as an application does, and gives the user that PostgreSQL sees. */
async function logIn(session: SessionView, user: string, password: string): Promise<string> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port: session.connection?.port ?? 0, user, password, database: 'app' },
    connectionTimeoutMillis: 10_000,
  })
  await client.connect()
  try {
    const { rows } = await client.query<{ name: string }>('SELECT current_user AS name')
    return rows[0]?.name ?? ''
  } finally {
    await client.end()
  }
}

export const access: readonly Scenario[] = [
  {
    name: 'a cluster whose superuser is not called postgres is published, exported, and connects as that one',
    source: 'https://github.com/railwayapp-templates/postgres-ssl/pull/99',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster({ superuser: 'shop_admin' })
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(session.connection?.user).to.equal('shop_admin')
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
      await bench.rows(session, 'DELETE FROM t WHERE i <= 10')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'a cluster whose role postgres may not log in is published as another superuser',
    source: 'https://github.com/wal-g/wal-g/issues/695',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql('CREATE ROLE dba SUPERUSER LOGIN; ALTER ROLE postgres NOLOGIN')
      await bench.basebackup({ ...production, superuser: 'dba' })
      const session = await bench.publish()
      expect(session.connection?.user).to.equal('dba')
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'a superuser whose name must be quoted is found',
    source: 'https://github.com/pgautoupgrade/docker-pgautoupgrade/issues/114',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(`CREATE ROLE "Old DBA, ""Jim""" SUPERUSER LOGIN; ALTER ROLE postgres NOLOGIN`)
      await bench.basebackup({ ...production, superuser: 'Old DBA, "Jim"' })
      const session = await bench.publish()
      expect(session.connection?.user).to.equal('Old DBA, "Jim"')
      await bench.rows(session, 'DELETE FROM t')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'roles with md5 passwords and roles with scram passwords both log in over TCP',
    source: 'https://github.com/ubicloud/ubicloud/pull/4875',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `SET password_encryption = 'md5'; CREATE ROLE old_app LOGIN PASSWORD 'x';
         SET password_encryption = 'scram-sha-256'; CREATE ROLE new_app LOGIN PASSWORD 'y'`,
      )
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await logIn(session, 'old_app', 'x')).to.equal('old_app')
      expect(await logIn(session, 'new_app', 'y')).to.equal('new_app')
    },
  },
  {
    name: 'roles whose passwords have expired, the superuser among them, do not prevent publishing',
    source: 'https://www.postgresql.org/docs/15/sql-createrole.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `ALTER ROLE postgres PASSWORD 'x' VALID UNTIL '2015-01-01' CONNECTION LIMIT 0;
         CREATE ROLE left_company LOGIN PASSWORD 'x' VALID UNTIL '2015-01-01'`,
      )
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
      const refused = await logIn(session, 'left_company', 'x').catch((error: Error) => error)
      expect(refused).to.be.an('error')
    },
  },
  {
    name: 'a cluster without a database postgres is published',
    source: 'https://www.postgresql.org/docs/15/manage-ag-templatedbs.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql('DROP DATABASE postgres')
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
      await bench.rows(session, 'DELETE FROM t')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'a cluster whose databases postgres and template1 are closed is published',
    source: 'https://www.postgresql.org/docs/15/sql-alterdatabase.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `UPDATE pg_database SET datallowconn = false WHERE datname IN ('postgres', 'template1')`,
      )
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
      await bench.rows(session, 'DELETE FROM t')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'a cluster with every database at its connection limit is published and exported',
    source: 'https://www.postgresql.org/docs/15/sql-alterdatabase.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql('UPDATE pg_database SET datconnlimit = 0')
      await bench.basebackup(production)
      const session = await bench.publish()
      await bench.rows(session, 'DELETE FROM t')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'a database that an interrupted DROP DATABASE left invalid is passed over by a rescue of a table in another',
    source: 'https://github.com/neondatabase/neon/pull/5561',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql('CREATE DATABASE broken')
      await production.sql(`UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'`)
      await bench.basebackup(production)
      expectExported(await bench.rescue({ tables: ['public.t'] }))
    },
  },
  {
    name: 'a cluster whose template1 and public schemas belong to others is published and exported',
    source: 'https://www.postgresql.org/docs/15/manage-ag-templatedbs.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `CREATE ROLE owner_of_all; ALTER DATABASE template1 OWNER TO owner_of_all;
         ALTER DATABASE app OWNER TO owner_of_all; ALTER SCHEMA public OWNER TO owner_of_all;
         REVOKE ALL ON DATABASE app, template1, postgres FROM PUBLIC;
         ALTER TABLE t OWNER TO owner_of_all; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         ALTER TABLE t FORCE ROW LEVEL SECURITY`,
      )
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
      await bench.rows(session, 'DELETE FROM t')
      expectExported(await bench.export(session, { databases: ['app'] }))
    },
  },
  {
    name: 'session_preload_libraries of a role lets Howdah in, and says that others are kept out',
    source: 'https://github.com/supabase/postgres/issues/1308',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `CREATE ROLE backup LOGIN REPLICATION;
         SET allow_system_table_mods = on;
         INSERT INTO pg_db_role_setting VALUES (0, 'postgres'::regrole, '{session_preload_libraries=howdah_no_such}')`,
      )
      await bench.basebackup({ ...production, superuser: 'backup' })
      const session = await bench.publish()
      expectWarnings(session, /session_preload_libraries|howdah_no_such/)
    },
  },
  {
    name: 'session_preload_libraries of a database is reported, and its table is rescued nevertheless',
    source: 'https://github.com/darold/pgtt/pull/55',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `CREATE DATABASE guarded TEMPLATE app STRATEGY file_copy;
         SET allow_system_table_mods = on;
         INSERT INTO pg_db_role_setting
         SELECT oid, 0, '{session_preload_libraries=howdah_no_such}' FROM pg_database WHERE datname = 'guarded'`,
        'postgres',
      )
      await bench.basebackup(production)
      const session = await bench.publish()
      expectWarnings(
        session,
        /guarded.*(session_preload_libraries|howdah_no_such)|(session_preload_libraries|howdah_no_such).*guarded/,
      )
      await bench.unpublish(session)
      expectExported(await bench.rescue({ databases: ['guarded'], tables: ['public.t'] }))
    },
  },
]
