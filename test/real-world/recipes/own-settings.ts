/** Roles and databases with settings of their own: what Howdah asks the instance does not depend on them. */
import { expect } from 'chai'
import type { SessionView } from '../../../messages/values.ts'
import type { Cluster } from '../cluster.ts'
import { expectExported } from '../expectations.ts'
import type { Scenario } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

/** psql's way past the settings of role and database, so that only Howdah's own connections are tried. */
const calm = (database: string): string => {
  const options = Object.entries(CALM).map(([name, value]) => `-c ${name}=${value}`)
  return `dbname=${database} user=backup options='${options.join(' ')}'`
}
const CALM = {
  statement_timeout: '0',
  lock_timeout: '0',
  idle_session_timeout: '0',
  default_transaction_read_only: 'off',
  // Two backslashes, of which the connection string takes one and the options the other.
  default_transaction_isolation: 'repeatable\\\\ read',
  role: 'none',
}

/** Publishes, changes a table, exports it, and sees that an unchanged database counts as unchanged before that. */
async function publishChangeExport(bench: Workbench): Promise<void> {
  const session = await bench.publish()
  const { changes } = await bench.fleet.show(session.id)
  expect(changes?.changed ?? false, 'not changed').to.equal(false)
  await bench.rows(session, 'DELETE FROM public.t WHERE i <= 10', calm('app'))
  expectExported(await bench.export(session, { databases: ['app'] }))
}

/** Gives the superuser and the database these settings, by the table: ALTER … SET looks whether a value can be had. */
async function spoil(production: Cluster, settings: readonly (readonly [string, string])[]): Promise<void> {
  await production.sql('CREATE ROLE nobody_special; CREATE ROLE backup LOGIN SUPERUSER')
  const all = settings.map(([name, value]) => `'${name}=${value}'`).join(', ')
  await production.sql(
    `INSERT INTO pg_db_role_setting VALUES (0, 'postgres'::regrole, ARRAY[${all}]);
     INSERT INTO pg_db_role_setting
     SELECT oid, 0, ARRAY[${all}] FROM pg_database WHERE datname IN ('app', 'postgres')`,
  )
}

/** Settings that a `pg_dump` or a query of Howdah's could trip over. */
const AWKWARD = [
  ['DateStyle', 'German', 'https://github.com/immich-app/static-pages/pull/719'],
  ['IntervalStyle', 'sql_standard', 'https://github.com/brianc/node-postgres/issues/471'],
  ['TimeZone', 'Asia/Kathmandu', 'https://github.com/brianc/node-postgres/issues/471'],
  ['client_encoding', 'LATIN1', 'https://www.postgresql.org/docs/15/multibyte.html'],
  ['bytea_output', 'escape', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  ['standard_conforming_strings', 'off', 'https://www.postgresql.org/docs/15/runtime-config-compatible.html'],
  ['quote_all_identifiers', 'on', 'https://www.postgresql.org/docs/15/runtime-config-compatible.html'],
  ['default_transaction_read_only', 'on', 'https://github.com/zalando/spilo/issues/576'],
  ['default_transaction_isolation', 'serializable', 'https://github.com/ubicloud/ubicloud/issues/5433'],
  ['default_transaction_deferrable', 'on', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  ['statement_timeout', '1ms', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  ['lock_timeout', '1ms', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  ['idle_session_timeout', '1ms', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  [
    'idle_in_transaction_session_timeout',
    '1ms',
    'https://www.postgresql.org/docs/15/runtime-config-client.html',
  ],
  ['row_security', 'off', 'https://www.postgresql.org/docs/15/ddl-rowsecurity.html'],
  ['session_replication_role', 'replica', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  ['default_tablespace', 'dropped_long_ago', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  ['temp_tablespaces', 'dropped_long_ago', 'https://www.postgresql.org/docs/15/runtime-config-client.html'],
  ['default_table_access_method', 'dropped_long_ago', 'https://www.postgresql.org/docs/15/tableam.html'],
  ['role', 'nobody_special', 'https://www.postgresql.org/docs/15/sql-alterrole.html'],
] as const

const CI: ReadonlySet<string> = new Set(['statement_timeout'])

export const ownSettings: readonly Scenario[] = [
  ...AWKWARD.map(
    ([name, value, source]): Scenario => ({
      name: `a database and a superuser with ${name} = ${value} are published and exported`,
      source,
      share: CI.has(name) ? 'ci' : 'soak',
      async run(bench) {
        const production = await bench.cluster()
        await spoil(production, [[name, value]])
        await bench.basebackup({ ...production, superuser: 'backup' })
        await publishChangeExport(bench)
      },
    }),
  ),
  {
    name: 'a superuser and databases with awkward settings of every kind go through every verb',
    source: 'https://github.com/immich-app/static-pages/pull/719',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await spoil(
        production,
        AWKWARD.map(([name, value]) => [name, value]),
      )
      await bench.basebackup({ ...production, superuser: 'backup' })
      for (const [row, point] of [
        [1001, 'one'],
        [1002, 'two'],
        [1003, 'three'],
      ] as const) {
        await production.sql(
          `INSERT INTO public.t VALUES (${row}); SELECT pg_create_restore_point('${point}') \\g /dev/null`,
          calm('app'),
        )
      }
      await production.switchWal(calm('template1'))
      const { fleet } = bench
      const last = async (session: SessionView) =>
        bench.rows(session, 'SELECT max(i) FROM public.t', calm('app'))
      const paused = await bench.publish({
        afterRecovery: 'pause',
        recoverTo: { type: 'name', value: 'one' },
      })
      expect(Date.now() - Date.parse(paused.paused?.lastCommit ?? '')).to.be.within(0, 3_600_000)
      expect(await last(paused)).to.equal('1001')
      await fleet.howdahJson('advance', paused.id, '--recover-to', 'name=two')
      expect(await last(paused)).to.equal('1002')
      await fleet.howdahJson('promote', paused.id)
      await bench.rows(paused, 'DELETE FROM public.t WHERE i <= 10', calm('app'))
      const refused = await fleet.bus.request('session.republish', { session: paused.id })
      expect(refused).to.have.nested.property('error.code', 'changes_unexported')
      expectExported(await bench.export(paused, { databases: ['app'] }))
      const again = await fleet.howdahJson<SessionView>('republish', paused.id)
      expect(await last(again)).to.equal('1003')
    },
  },
  {
    name: 'a cluster of serializable transactions is published with a pause and can be read',
    source: 'https://github.com/ubicloud/ubicloud/issues/5433',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster({
        settings: { default_transaction_isolation: 'serializable' },
      })
      await production.sql('ALTER ROLE postgres SET default_transaction_isolation = serializable')
      await bench.basebackup(production)
      const session = await bench.publish({ afterRecovery: 'pause' })
      const query = 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t; COMMIT'
      expect(await bench.rows(session, query)).to.equal('1000')
    },
  },
  {
    name: 'a cluster whose DateStyle is German is published with a pause, and says when its last commit was',
    source: 'https://github.com/cloudnative-pg/cloudnative-pg/pull/695',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster({ settings: { datestyle: 'German' } })
      await bench.basebackup(production)
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      const session = await bench.publish({ afterRecovery: 'pause' })
      const age = Date.now() - Date.parse(session.paused?.lastCommit ?? '')
      expect(age).to.be.within(0, 10 * 60_000)
    },
  },
  {
    name: "functions of a schema that a role's search_path has before pg_catalog are not called by Howdah",
    source: 'https://wiki.postgresql.org/wiki/A_Guide_to_CVE-2018-1058:_Protect_Your_Search_Path',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      const functions = ['now()', 'pg_is_in_recovery()', 'pg_last_wal_replay_lsn()', 'pg_current_wal_lsn()']
      const evil = functions
        .map(
          (name) =>
            `CREATE FUNCTION evil.${name} RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO evil.called VALUES ('${name}'); RETURN 'evil'; END $$;`,
        )
        .join('\n')
      for (const database of ['app', 'postgres', 'template1']) {
        await production.sql(
          `CREATE SCHEMA evil; CREATE TABLE evil.called (name text); ${evil}
           CREATE VIEW evil.pg_database AS SELECT 1 / (random() * 0)::int AS datname;
           CREATE TABLE evil.pg_class (oid int);`,
          database,
        )
      }
      await production.sql('ALTER ROLE postgres SET search_path = evil, pg_catalog')
      await bench.basebackup(production)
      const session = await bench.publish()
      await bench.rows(session, 'DELETE FROM public.t WHERE i <= 10')
      expectExported(await bench.export(session, { databases: ['app'] }))
      for (const database of ['app', 'postgres']) {
        expect(await bench.rows(session, 'SELECT count(*) FROM evil.called', database)).to.equal('0')
      }
    },
  },
  {
    name: 'settings of roles and databases that this PostgreSQL does not know do not prevent connections',
    source: 'https://www.postgresql.org/docs/15/catalog-pg-db-role-setting.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(
        `CREATE ROLE backup LOGIN SUPERUSER; SET allow_system_table_mods = on;
         INSERT INTO pg_db_role_setting
         VALUES (0, 0, ARRAY['no_such_setting=on', 'work_mem=plenty', 'a = b', 'garbage'])`,
      )
      await bench.basebackup(production)
      await publishChangeExport(bench)
    },
  },
]
