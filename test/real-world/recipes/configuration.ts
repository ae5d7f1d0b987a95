/** postgresql.conf and postgresql.auto.conf as they grew: what this machine does not have is left out, with a warning. */
import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { expectExported, expectPublishable, expectWarnings } from '../expectations.ts'
import type { Scenario } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

/** Publishes a cluster that has more in its postgresql.conf than it ever read. */
async function publishConfigured(bench: Workbench, lines: string | Buffer) {
  const production = await bench.cluster()
  await appendFile(join(production.dataDirectory, 'postgresql.conf'), lines)
  await bench.basebackup(production)
  const session = await bench.publish()
  expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
  return session
}

/** Values that were right on production's machine, and are wrong on this one. */
const ELSEWHERE: readonly (readonly [name: string, value: string, source: string])[] = [
  ['lc_monetary', 'xx_XX.UTF-8', 'https://github.com/docker-library/postgres/issues/552'],
  ['lc_messages', 'xx_XX.UTF-8', 'https://github.com/docker-library/postgres/issues/690'],
  ['lc_numeric', 'xx_XX.UTF-8', 'https://github.com/ANXS/postgresql/issues/110'],
  ['lc_time', 'xx_XX.UTF-8', 'https://github.com/ANXS/postgresql/issues/110'],
  ['timezone', 'Zz/Production', 'https://github.com/TandoorRecipes/recipes/issues/2687'],
  ['log_timezone', 'Zz/Production', 'https://github.com/TandoorRecipes/recipes/issues/2687'],
  ['timezone_abbreviations', 'Mine', 'https://github.com/docker-library/postgres/issues/1392'],
  ['max_stack_depth', '30MB', 'https://github.com/CrunchyData/postgres-operator/issues/3853'],
  ['foo_unknown_setting', 'on', 'https://github.com/CrunchyData/postgres-operator/issues/3853'],
  ['stats_temp_directory', '/run/pg', 'https://www.postgresql.org/docs/15/release-15.html'],
  ['unix_socket_group', 'no-such-group', 'https://www.postgresql.org/docs/15/runtime-config-connection.html'],
  ['shared_preload_libraries', 'no_such_library', 'https://github.com/darold/pgtt/pull/55'],
  ['jit_provider', 'no_such_jit', 'https://www.postgresql.org/docs/15/jit-extensibility.html'],
  ['shared_memory_type', 'windows', 'https://www.postgresql.org/docs/15/runtime-config-resource.html'],
  ['effective_io_concurrency', '1001', 'https://www.postgresql.org/docs/15/runtime-config-resource.html'],
  ['max_connections', '0', 'https://www.postgresql.org/docs/15/runtime-config-connection.html'],
]
/** Howdah sets these itself: the value of the backup is not needed. */
const OVERRIDDEN: ReadonlySet<string> = new Set([
  'lc_messages',
  'log_timezone',
  'stats_temp_directory',
  'unix_socket_group',
  'jit_provider',
  'shared_memory_type',
])
const CI: ReadonlySet<string> = new Set(['timezone', 'lc_messages'])

/** What production has for good reasons, and what a start must not depend on. */
const ODD: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
  [
    'huge pages that this machine does not have',
    { huge_pages: 'on' },
    'https://www.postgresql.org/docs/15/kernel-resources.html',
  ],
  [
    'WAL compressed by lz4',
    { wal_compression: 'lz4' },
    'https://www.postgresql.org/docs/15/runtime-config-wal.html',
  ],
  [
    'WAL compressed by zstd',
    { wal_compression: 'zstd' },
    'https://www.postgresql.org/docs/15/runtime-config-wal.html',
  ],
  [
    'full_page_writes off',
    { full_page_writes: 'off' },
    'https://www.postgresql.org/docs/15/runtime-config-wal.html',
  ],
  ['hot_standby off', { hot_standby: 'off' }, 'https://www.postgresql.org/docs/15/hot-standby.html'],
  [
    'commit timestamps',
    { track_commit_timestamp: 'on' },
    'https://www.postgresql.org/docs/15/runtime-config-replication.html',
  ],
  [
    'a verbose log with SQLSTATEs',
    { log_error_verbosity: 'verbose', log_line_prefix: '%e %q%u@%d ' },
    'https://www.postgresql.org/docs/15/runtime-config-logging.html',
  ],
  [
    'a terse log with only panics, to syslog',
    {
      log_error_verbosity: 'terse',
      log_min_messages: 'panic',
      log_destination: 'syslog',
      log_min_error_statement: 'panic',
    },
    'https://www.postgresql.org/docs/15/runtime-config-logging.html',
  ],
  [
    'a log in JSON by the collector, of every statement',
    {
      log_destination: 'jsonlog,csvlog',
      logging_collector: 'on',
      log_statement: 'all',
      log_connections: 'on',
      log_min_messages: 'debug1',
    },
    'https://www.postgresql.org/docs/15/runtime-config-logging.html',
  ],
  [
    'replay that waits for an hour',
    { recovery_min_apply_delay: '1h' },
    'https://www.postgresql.org/docs/15/runtime-config-replication.html',
  ],
  [
    'shared memory of System V and files',
    { shared_memory_type: 'sysv', dynamic_shared_memory_type: 'mmap' },
    'https://www.postgresql.org/docs/15/runtime-config-resource.html',
  ],
  [
    'one connection, kept for superusers',
    { max_connections: '3', superuser_reserved_connections: '2', max_wal_senders: '4' },
    'https://www.postgresql.org/docs/15/runtime-config-connection.html',
  ],
  [
    'a log that rotates every second and an authentication of one',
    { log_rotation_age: '1', authentication_timeout: '1', log_startup_progress_interval: '0' },
    'https://www.postgresql.org/docs/15/runtime-config-logging.html',
  ],
]

export const configuration: readonly Scenario[] = [
  ...ELSEWHERE.map(
    ([name, value, source]): Scenario => ({
      name: `a cluster with ${name} = ${value} in its file starts without it`,
      source,
      share: CI.has(name) ? 'ci' : 'soak',
      async run(bench) {
        const session = await publishConfigured(bench, `${name} = '${value}'\n`)
        if (!OVERRIDDEN.has(name)) expectWarnings(session, new RegExp(`${name}|${value}`))
      },
    }),
  ),
  {
    name: 'a check of a cluster with settings that this machine does not take says so, and that it can be published',
    source: 'https://github.com/docker-library/postgres/issues/1392',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.configure(`lc_monetary = 'xx_XX.UTF-8'\ntimezone = 'Zz/Production'\n`)
      await bench.basebackup(production)
      expectPublishable(await bench.check())
      await bench.publish()
    },
  },
  {
    name: 'settings given with the publish stand instead of those of the file that cannot be had',
    source: 'https://github.com/docker-library/postgres/issues/552',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.configure(`lc_monetary = 'xx_XX.UTF-8'\ntimezone = 'Zz/Production'\n`)
      await bench.basebackup(production)
      const session = await bench.publish({ settings: { lc_monetary: 'C', timezone: 'Europe/Berlin' } })
      expect(await bench.rows(session, 'SHOW timezone')).to.equal('Europe/Berlin')
      expect(session.warnings.join('\n')).not.to.match(/xx_XX|Zz\/Production/)
    },
  },
  ...ODD.map(
    ([what, settings, source]): Scenario => ({
      name: `a cluster with ${what} is published and exported`,
      source,
      share: 'soak',
      async run(bench) {
        const production = await bench.cluster()
        const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`)
        await production.configure(lines.join(''))
        if (!('huge_pages' in settings)) {
          await production.stop()
          await production.start()
        }
        await bench.basebackup(production)
        await production.sql('INSERT INTO t VALUES (1001)')
        await production.switchWal()
        const session = await bench.publish()
        expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
        await bench.rows(session, 'DELETE FROM t')
        expectExported(await bench.export(session, { databases: ['app'] }))
      },
    }),
  ),
  {
    name: 'a verbose log in which nothing reads as usual does not hide that the recovery target was reached',
    source: 'https://www.postgresql.org/docs/15/runtime-config-logging.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster({
        settings: { log_error_verbosity: 'verbose', log_line_prefix: '%e ', log_min_messages: 'panic' },
      })
      await bench.basebackup(production)
      await production.sql(`INSERT INTO t VALUES (1001)`)
      await production.sql(`SELECT pg_create_restore_point('noon')`)
      await production.sql(`INSERT INTO t VALUES (1002)`)
      await production.switchWal()
      for (const afterRecovery of ['pause', 'promote'] as const) {
        const session = await bench.publish({ afterRecovery, recoverTo: { type: 'name', value: 'noon' } })
        expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
        await bench.unpublish(session)
      }
    },
  },
  {
    name: 'comments that are not UTF-8 and values in LATIN1 keep postgresql.conf readable',
    source: 'https://www.postgresql.org/docs/15/config-setting.html',
    share: 'ci',
    async run(bench) {
      const latin1 = Buffer.from(
        "# f\xfcr die Kasse, \xff\xfe\x00\x01\ncluster_name = 'K\xf6ln'\nwork_mem = 7MB # n\xf6tig\n",
        'latin1',
      )
      const session = await publishConfigured(bench, Buffer.from(latin1.filter((byte) => byte !== 0)))
      expect(await bench.rows(session, 'SHOW work_mem')).to.equal('7MB')
    },
  },
  {
    name: 'what a torn write left of postgresql.auto.conf is left out, with a warning',
    source: 'https://www.postgresql.org/docs/15/sql-altersystem.html',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql(`ALTER SYSTEM SET work_mem = '7MB'`)
      const file = join(production.dataDirectory, 'postgresql.auto.conf')
      await appendFile(file, "no_such_setting = 'on'\nmaintenance_work_mem = plenty\nlog_statement = 'al")
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SHOW work_mem')).to.equal('7MB')
      expectWarnings(session, /no_such_setting/, /maintenance_work_mem/)
    },
  },
  {
    name: 'lines of postgresql.conf that PostgreSQL cannot parse are left out, with a warning',
    source: 'https://www.postgresql.org/docs/15/config-setting.html',
    share: 'soak',
    async run(bench) {
      const session = await publishConfigured(
        bench,
        `work_mem = 7MB\n<<<<<<< HEAD\n= 4MB\nwork_mem 8MB junk here\ninclude\n@include 'x'\n`,
      )
      expect(await bench.rows(session, 'SHOW work_mem')).to.equal('7MB')
      expect(session.warnings.join('\n')).to.match(/HEAD|line/)
    },
  },
  {
    name: 'files that include each other in a circle, and directories of them, are read as far as PostgreSQL would',
    source: 'https://www.postgresql.org/docs/15/config-setting.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const directory = join(production.dataDirectory, 'conf.d')
      await mkdir(directory)
      await writeFile(join(directory, '10-a.conf'), "work_mem = '7MB'\ninclude '20-b.conf'\n")
      await writeFile(join(directory, '20-b.conf'), "include_if_exists '10-a.conf'\n")
      await writeFile(join(directory, '.hidden.conf'), "work_mem = '9MB'\n")
      await production.configure(`include_dir = 'conf.d'\ninclude_if_exists 'gone.conf'\n`)
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SHOW work_mem')).to.equal('7MB')
    },
  },
  {
    name: 'limits that production raised after the backup are had by a publish that pauses, and by one that does not',
    source: 'https://www.postgresql.org/docs/15/hot-standby.html#HOT-STANDBY-ADMIN',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster({
        settings: { max_connections: '20', max_worker_processes: '4' },
      })
      await bench.basebackup(production)
      await production.stop()
      await production.configure(
        `max_connections = 150\nmax_worker_processes = 12\nmax_prepared_transactions = 9\nmax_locks_per_transaction = 90\n`,
      )
      await production.start()
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      for (const afterRecovery of ['promote', 'pause'] as const) {
        const session = await bench.publish({ afterRecovery })
        expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
        await bench.unpublish(session)
      }
    },
  },
]
