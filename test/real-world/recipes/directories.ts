/** Data directories with a past: links to elsewhere, files of three DBAs, copies that no tool made, other initdb options. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { POSTGRES_BIN, runAs } from '../../support/postgres-cluster.ts'
import { INSTANCE, ownDirectory } from '../backups.ts'
import type { Cluster } from '../cluster.ts'
import { expectExported } from '../expectations.ts'
import { repositoryPath, type Scenario, walPath } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

const run = promisify(execFile)

/** A backup as a script of 2014 takes it: `cp` between the two functions of PostgreSQL, links as they are. */
async function copyByHand(bench: Workbench, production: Cluster): Promise<string> {
  const home = await ownDirectory(join(repositoryPath(bench.directory), INSTANCE), bench.account)
  const directory = join(home, 'copied')
  // Both functions in one session, which runs the copy by itself.
  const answer = await production.sql(
    `SELECT pg_backup_start('by hand', true) \\g /dev/null
     \\! cp -a ${production.dataDirectory} ${directory}
     SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)`,
  )
  await rm(join(directory, 'postmaster.pid'))
  for (const name of await readdir(join(directory, 'pg_wal'))) {
    await rm(join(directory, 'pg_wal', name), { recursive: true })
  }
  await mkdir(join(directory, 'pg_wal/archive_status'))
  await writeFile(join(directory, 'backup_label'), `${answer}\n`)
  await run('chown', ['-R', `${bench.account.uid}:${bench.account.gid}`, directory])
  await production.switchWal()
  return directory
}

/** Publishes, changes and exports the table of every cluster. */
async function publishAndUse(bench: Workbench, max = '1000'): Promise<void> {
  const session = await bench.publish()
  expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal(max)
  await bench.rows(session, 'DELETE FROM t WHERE i < 10; CHECKPOINT')
  expectExported(await bench.export(session, { databases: ['app'] }))
}

/** Another way in which initdb was called, years ago. */
const INITDB: readonly (readonly [string, readonly string[]])[] = [
  ['a group that may read it', ['--allow-group-access']],
  ['ICU as its locale provider', ['--locale-provider=icu', '--icu-locale=de']],
  ['the encoding LATIN1', ['--encoding=LATIN1', '--locale=C']],
  ['the encoding SQL_ASCII', ['--encoding=SQL_ASCII', '--locale=C']],
  ['the encoding EUC_JP', ['--encoding=EUC_JP', '--locale=C']],
]

export const directories: readonly Scenario[] = [
  {
    name: 'directories of a copied cluster that are links to those of production are not written through',
    source: 'https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      const elsewhere = await bench.place('elsewhere')
      await production.stop()
      for (const name of ['pg_stat', 'pg_stat_tmp', 'log']) {
        await ownDirectory(join(elsewhere, name), bench.account, 0o700)
        await rm(join(production.dataDirectory, name), { recursive: true, force: true })
        await symlink(join(elsewhere, name), join(production.dataDirectory, name))
      }
      await production.start()
      await copyByHand(bench, production)
      const session = await bench.publish().catch((error: Error) => error)
      // Either of the two; that production's directories stay as they are is looked at in the end.
      if (session instanceof Error) expect(session.message).to.match(/link|leads out/)
      else await bench.rows(session, 'DELETE FROM t; CHECKPOINT')
    },
  },
  {
    name: 'a backup that a script took with cp is published',
    source: 'https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await copyByHand(bench, production)
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.switchWal()
      await publishAndUse(bench, '1001')
    },
  },
  {
    name: 'a copy without a backup_label is not published as if it were a backup, or holds every row',
    source: 'https://www.postgresql.org/docs/15/backup-file.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await production.sql('INSERT INTO t VALUES (1001)')
      await production.stop('immediate')
      const home = await ownDirectory(join(repositoryPath(bench.directory), INSTANCE), bench.account)
      await run('cp', ['-a', production.dataDirectory, join(home, 'snapshot')])
      const session = await bench.publish().catch((error: Error) => error)
      if (session instanceof Error) expect(session.message).to.match(/backup_label|no backup|no instance/i)
      else expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
    },
  },
  {
    name: 'a backup that was taken from a standby is published, and follows no primary',
    source: 'https://www.postgresql.org/docs/15/app-pgbasebackup.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const standby = await bench.cluster({ name: 'standby' })
      await standby.stop()
      await rm(standby.dataDirectory, { recursive: true })
      await runAs(bench.account, join(POSTGRES_BIN, 'pg_basebackup'), [
        ...['-D', standby.dataDirectory, '-h', production.socketDirectory, '-p', String(production.port)],
        ...['-U', 'postgres', '-c', 'fast', '--no-sync', '-R', '-X', 'stream'],
      ])
      await standby.configure(
        `port = ${standby.port}\nunix_socket_directories = '${standby.socketDirectory}'\n`,
      )
      await standby.start()
      await production.sql('INSERT INTO t VALUES (1001)')
      const lsn = await production.sql('SELECT pg_current_wal_lsn()')
      await standby.sql(
        `DO $$ BEGIN WHILE pg_last_wal_replay_lsn() < '${lsn}' LOOP PERFORM pg_sleep(0.05); END LOOP; END $$`,
      )
      await bench.basebackup(standby)
      await production.switchWal()
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
      expect(await bench.rows(session, 'SELECT pg_is_in_recovery()')).to.equal('f')
    },
  },
  {
    name: 'files that DBAs left in the data directory are no hindrance',
    source: 'https://www.postgresql.org/docs/15/storage-file-layout.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const left = [
        ...['core.4711', 'postgresql.conf.bak', 'recovery.done', 'recovery.conf.old', 'backup_label.old'],
        ...['nohup.out', 'base/README', 'global/pg_control_bak', 'base/old copy of 5', 'pg_wal/notes.txt'],
      ]
      for (const name of left) await writeFile(join(production.dataDirectory, name), 'left behind\n')
      await mkdir(join(production.dataDirectory, 'base/pgsql_tmp'), { recursive: true })
      await run('chown', ['-R', `${bench.account.uid}:${bench.account.gid}`, production.dataDirectory])
      await bench.basebackup(production)
      await publishAndUse(bench)
    },
  },
  {
    name: 'a recovery.signal, a standby.signal and a trigger file in the backup change nothing',
    source: 'https://www.postgresql.org/docs/15/runtime-config-wal.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const copied = await copyByHand(bench, production)
      for (const name of [
        'recovery.signal',
        'standby.signal',
        'promote',
        'postmaster.pid',
        'postmaster.opts',
      ]) {
        await writeFile(
          join(copied, name),
          name === 'postmaster.pid' ? `1\n${production.dataDirectory}\n` : '',
        )
      }
      await run('chown', ['-R', `${bench.account.uid}:${bench.account.gid}`, copied])
      await publishAndUse(bench)
    },
  },
  {
    name: 'a cluster of a much larger machine starts on this one',
    source: 'https://github.com/CrunchyData/postgres-operator/issues/3853',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      const large: Record<string, string> = {
        ...{ shared_buffers: '512GB', huge_pages: 'on', wal_buffers: '1GB', max_connections: '2000' },
        ...{ max_wal_size: '4TB', min_wal_size: '1TB', max_files_per_process: '1000000' },
        ...{ max_worker_processes: '128', autovacuum_max_workers: '64', max_parallel_workers: '128' },
        ...{ maintenance_work_mem: '64GB', effective_io_concurrency: '1000', max_wal_senders: '64' },
      }
      await production.configure(
        Object.entries(large)
          .map(([name, value]) => `${name} = '${value}'\n`)
          .join(''),
      )
      await bench.basebackup(production)
      await publishAndUse(bench)
    },
  },
  ...INITDB.map(
    ([what, initdb]): Scenario => ({
      name: `a cluster that initdb made with ${what} is published and exported`,
      source: 'https://www.postgresql.org/docs/15/app-initdb.html',
      share: 'soak',
      async run(bench) {
        const production = await bench.cluster({ initdb })
        await bench.basebackup(production)
        await publishAndUse(bench)
      },
    }),
  ),
  {
    name: 'a segment that a crash tore in the archive is taken from the backup that has it whole',
    source: 'https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-ARCHIVING-WAL',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production)
      await bench.seal()
      const segments = (await readdir(walPath(bench.directory))).filter((name) => /^[0-9A-F]{24}$/.test(name))
      const torn = join(walPath(bench.directory), segments.sort().at(-1) ?? '')
      await truncate(torn, 7 * 1024 * 1024 + 4096)
      await bench.seal({ again: true })
      await publishAndUse(bench)
    },
  },
  {
    name: 'a segment of the archive that was torn after the backup ends recovery before it, with a warning',
    source: 'https://github.com/wal-g/wal-g/issues/1126',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production)
      await production.sql('INSERT INTO t VALUES (8001)')
      await production.switchWal()
      await production.sql('INSERT INTO t VALUES (9001)')
      const last = await production.switchWal()
      await bench.seal()
      const archived = join(walPath(bench.directory), last)
      await truncate(archived, 4096)
      await bench.seal({ again: true })
      const session = await bench.publish().catch((error: Error) => error)
      const said = session instanceof Error ? session.message : session.warnings.join('\n')
      expect(said).to.include(last)
    },
  },
]
