/** Repositories as they are kept: parts elsewhere, archives that are away or not understood, backups that were copied. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import type { Cluster } from '../cluster.ts'
import { expectError, expectWarnings } from '../expectations.ts'
import { repositoryPath, type Scenario, walPath } from '../scenario.ts'
import type { Workbench } from '../workbench.ts'

const run = promisify(execFile)

/** A cluster with a pg_basebackup, and a row after it in a segment that was archived. */
async function backedUp(bench: Workbench): Promise<Cluster> {
  const production = await bench.cluster()
  await bench.basebackup(production)
  await production.sql('INSERT INTO t VALUES (9001)')
  await production.switchWal()
  await bench.seal()
  return production
}

/** Publishes the newest state; an old one is refused or has a warning, and is never silent. */
async function expectNotSilentlyOld(bench: Workbench, pattern: RegExp): Promise<void> {
  const session = await bench.publish().catch((error: Error) => error)
  if (session instanceof Error) {
    expect(session.message).to.match(pattern)
    return
  }
  if ((await bench.rows(session, 'SELECT max(i) FROM t')) !== '9001') expectWarnings(session, pattern)
}

/** Names of the WAL archive's segments. */
const segments = async (bench: Workbench): Promise<string[]> =>
  (await readdir(walPath(bench.directory))).filter((name) => /^[0-9A-F]{24}$/.test(name))

export const archives: readonly Scenario[] = [
  {
    name: 'a WAL archive that is not mounted is an error, not an old state',
    source: 'https://github.com/wal-g/wal-g/issues/1126',
    share: 'ci',
    async run(bench) {
      await backedUp(bench)
      await rename(walPath(bench.directory), `${walPath(bench.directory)}-away`)
      await bench.seal({ again: true })
      expectError(await bench.failingPublish(), 'repository_unavailable', /wal/)
    },
  },
  {
    name: 'a WAL archive that is an empty mount point is reported',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/1040',
    share: 'ci',
    async run(bench) {
      await backedUp(bench)
      await rename(walPath(bench.directory), `${walPath(bench.directory)}-away`)
      await mkdir(walPath(bench.directory))
      await bench.seal({ again: true })
      await expectNotSilentlyOld(bench, /WAL|archive/)
    },
  },
  ...(
    [
      ['xz', ['xz', '-T1', '-0']],
      ['lzo', undefined],
    ] as const
  ).map(
    ([extension, compress]): Scenario => ({
      name: `a WAL archive whose segments are .${extension} is reported where it is not understood`,
      source: 'https://github.com/wal-g/wal-g/issues/1126',
      share: 'soak',
      async run(bench) {
        await backedUp(bench)
        for (const name of await segments(bench)) {
          const path = join(walPath(bench.directory), name)
          if (compress === undefined) await rename(path, `${path}.${extension}`)
          else await run(compress[0], [...compress.slice(1), path])
        }
        await bench.seal({ again: true })
        await expectNotSilentlyOld(bench, new RegExp(`WAL|\\.${extension}`))
      },
    }),
  ),
  {
    name: 'a WAL archive with a directory for each timeline and log file is reported where it is not understood',
    source: 'https://github.com/wal-g/wal-g/issues/1126',
    share: 'soak',
    async run(bench) {
      await backedUp(bench)
      for (const name of await segments(bench)) {
        const directory = join(walPath(bench.directory), name.slice(0, 16))
        await mkdir(directory, { recursive: true })
        await rename(join(walPath(bench.directory), name), join(directory, name))
      }
      await bench.seal({ again: true })
      await expectNotSilentlyOld(bench, /WAL|director/)
    },
  },
  {
    name: 'a WAL archive in which the segments after the backup end in a gap is reported',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/1040',
    share: 'ci',
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production)
      const missing: string[] = []
      for (const row of [7001, 8001, 9001]) {
        await production.sql(`INSERT INTO t VALUES (${row})`)
        missing.push(await production.switchWal())
      }
      await bench.seal()
      await rm(join(walPath(bench.directory), missing[1] ?? ''))
      await bench.seal({ again: true })
      await expectNotSilentlyOld(bench, new RegExp(missing[1] ?? ''))
    },
  },
  {
    name: 'of pg_basebackups that were copied, the newest is the one that ended last, whatever the files say',
    source: 'https://github.com/wal-g/wal-g/issues/694',
    share: 'ci',
    repository: (directory) => ({ format: 'basebackup', path: repositoryPath(directory) }),
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production, 'first')
      await production.sql('INSERT INTO t VALUES (2002)')
      const second = await bench.basebackup(production, 'second')
      await bench.seal()
      const old = new Date('2020-01-01T00:00:00Z')
      for (const path of await readdir(second)) await utimes(join(second, path), old, old)
      await utimes(second, old, old)
      await bench.seal({ again: true })
      const session = await bench.publish()
      expect(session.backup).to.equal('second')
      expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('2002')
    },
  },
  {
    name: 'a time between two pg_basebackups that were copied is reached from the first',
    source: 'https://github.com/zalando/spilo/issues/576',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const first = await bench.basebackup(production, 'first')
      await production.sql('SELECT pg_sleep(1.1); INSERT INTO t VALUES (2001)')
      const time = await production.sql(`SELECT to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`)
      await production.sql('SELECT pg_sleep(1.1); INSERT INTO t VALUES (2002)')
      const second = await bench.basebackup(production, 'second')
      await production.switchWal()
      await bench.seal()
      const later = new Date(Date.now() + 3600_000)
      for (const directory of [first, second]) {
        await utimes(join(directory, 'backup_manifest'), later, later)
      }
      await bench.seal({ again: true })
      const session = await bench.publish({ recoverTo: { type: 'time', value: time } })
      expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('2001')
    },
  },
  {
    name: 'a pg_basebackup whose pg_wal is a link to another directory says where it leads, and what to do',
    source: 'https://github.com/EnterpriseDB/barman/issues/624',
    share: 'ci',
    repository: (directory) => ({ format: 'basebackup', path: repositoryPath(directory) }),
    async run(bench) {
      const production = await bench.cluster()
      const waldir = join(await bench.place('waldir'), 'full')
      await bench.basebackup(production, 'full', `--waldir=${waldir}`)
      const session = await bench.publish().catch((error: Error) => error)
      if (session instanceof Error) {
        expect(session.message).to.include(waldir)
        expect(session.message).not.to.match(/backup_damaged/)
        expect(session.message).to.match(/linkTargets|walPath/)
      } else expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'a pg_basebackup whose pg_wal is a link is published when that place is allowed',
    source: 'https://github.com/EnterpriseDB/barman/issues/624',
    share: 'soak',
    repository: (directory) => ({
      format: 'basebackup',
      path: repositoryPath(directory),
      linkTargets: [join(directory, 'waldir')],
    }),
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production, 'full', `--waldir=${join(await bench.place('waldir'), 'full')}`)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'a pg_basebackup whose pg_wal is a link is published with that directory as its walPath',
    source: 'https://github.com/EnterpriseDB/barman/issues/624',
    share: 'soak',
    repository: (directory) => ({
      format: 'basebackup',
      path: repositoryPath(directory),
      walPath: join(directory, 'waldir/full'),
    }),
    async run(bench) {
      const production = await bench.cluster()
      const waldir = join(await bench.place('waldir'), 'full')
      await bench.basebackup(production, 'full', `--waldir=${waldir}`)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'a backup that holds all of its WAL needs no archive',
    source: 'https://www.postgresql.org/docs/15/app-pgbasebackup.html',
    share: 'soak',
    repository: (directory) => ({ format: 'basebackup', path: repositoryPath(directory) }),
    async run(bench) {
      const production = await bench.cluster()
      await bench.basebackup(production)
      const session = await bench.publish({ recoverTo: { type: 'immediate' } })
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'a backup with files whose names are not UTF-8 is published',
    source: 'https://www.postgresql.org/docs/15/storage-file-layout.html',
    share: 'soak',
    async run(bench) {
      const production = await bench.cluster()
      const path = Buffer.concat([
        Buffer.from(`${production.dataDirectory}/K`),
        Buffer.from([0xf6, 0xff]),
        Buffer.from('ln'),
      ])
      await writeFile(path, 'notes')
      await bench.basebackup(production)
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'an offline backup of a cluster that never archived starts from the WAL in it',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/2018',
    share: 'ci',
    repository: 'pgbackrest',
    async run(bench) {
      const production = await bench.cluster({
        settings: { archive_mode: 'off', wal_level: 'minimal', max_wal_senders: '0' },
      })
      await production.stop()
      const tool = await bench.pgbackrest(production, { offline: true })
      await tool.backup('full', '--no-online')
      const session = await bench.publish()
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
      await bench.rows(session, 'DELETE FROM t')
    },
  },
  {
    name: 'a backup that brought its WAL along is published when the archive has expired',
    source: 'https://pgbackrest.org/configuration.html#section-archive/option-archive-copy',
    share: 'soak',
    repository: 'pgbackrest',
    async run(bench) {
      const production = await bench.cluster()
      const tool = await bench.pgbackrest(production)
      const label = await tool.backup('full', '--archive-copy')
      await bench.seal()
      const archive = join(repositoryPath(bench.directory), 'archive/main/15-1')
      for (const name of await readdir(archive)) await rm(join(archive, name), { recursive: true })
      await bench.seal({ again: true })
      const session = await bench.publish({ backup: label, recoverTo: { type: 'immediate' } })
      expect(await bench.rows(session, 'SELECT count(*) FROM t')).to.equal('1000')
    },
  },
  {
    name: 'after a roll-back and two stanza-upgrades the first backups are published, and the last',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/1539',
    share: 'ci',
    repository: 'pgbackrest',
    async run(bench) {
      const first = await bench.cluster({ name: 'first' })
      const tool = await bench.pgbackrest(first)
      const label = await tool.backup()
      await first.switchWal()
      await first.stop()
      const second = await bench.cluster({ name: 'second', initdb: ['--wal-segsize=16'] })
      const upgraded = await bench.pgbackrest(second, { command: 'stanza-upgrade' })
      await upgraded.backup()
      await second.stop()
      await first.start()
      await tool.run('stanza-upgrade')
      await first.sql('INSERT INTO t VALUES (9001)')
      await tool.backup()
      await first.sql('INSERT INTO t VALUES (9002)')
      await first.switchWal()
      const old = await bench.publish({ backup: label, recoverTo: { type: 'immediate' } })
      expect(await bench.rows(old, 'SELECT max(i) FROM t')).to.equal('1000')
      const latest = await bench.publish()
      expect(await bench.rows(latest, 'SELECT max(i) FROM t')).to.equal('9002')
    },
  },
  {
    name: 'a pgBackRest archive that is a link to another disk is refused by the name of the link and of the key',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/2147',
    share: 'ci',
    repository: 'pgbackrest',
    async run(bench) {
      await pgbackrestElsewhere(bench, 'archive')
      const error = await bench.failingPublish()
      expectError(error, error.code, /elsewhere/, /linkTargets/)
      expect(error.code).not.to.equal('backup_damaged')
    },
  },
  ...(['archive', 'backup', 'backup/main', 'archive/main'] as const).map(
    (part): Scenario => ({
      name: `a pgBackRest repository whose ${part} is a link is published when that place is allowed`,
      source: 'https://github.com/pgbackrest/pgbackrest/issues/2147',
      share: part === 'archive' ? 'ci' : 'soak',
      repository: (directory) => ({
        format: 'pgbackrest',
        path: repositoryPath(directory),
        linkTargets: [join(directory, 'elsewhere')],
      }),
      async run(bench) {
        await pgbackrestElsewhere(bench, part)
        const session = await bench.publish()
        expect(await bench.rows(session, 'SELECT max(i) FROM t')).to.equal('1001')
      },
    }),
  ),
  {
    name: 'a pgBackRest stanza that is a link to another disk is listed with its reason',
    source: 'https://github.com/pgbackrest/pgbackrest/issues/2147',
    share: 'soak',
    repository: 'pgbackrest',
    async run(bench) {
      await pgbackrestElsewhere(bench, 'backup/main')
      const inventory = await bench.fleet.bus.request('inventory.list', { repository: bench.repository })
      expect(JSON.stringify(inventory)).to.include('elsewhere')
      const error = await bench.failingPublish()
      expectError(error, error.code, /elsewhere/)
    },
  },
  {
    name: 'a backup that expires under its session is reported as gone, by its label',
    source: 'https://github.com/EnterpriseDB/barman/issues/200',
    share: 'ci',
    repository: 'pgbackrest',
    async run(bench) {
      bench.keepRunning()
      const production = await bench.cluster()
      await production.sql('CREATE TABLE unread AS SELECT generate_series(1, 100000) AS i')
      const tool = await bench.pgbackrest(production)
      const label = await tool.backup()
      await tool.backup()
      const session = await bench.publish({ backup: label })
      await tool.run('expire', `--set=${label}`)
      await bench.rows(session, 'SELECT count(*) FROM unread').catch(() => undefined)
      const warned = await bench.untilWarned(session.id, /gone|expired|no longer/)
      expect(warned.warnings.join('\n')).to.include(label)
      await production.stop()
    },
  },
]

/** A pgBackRest repository one part of which was moved to another place, with a link to it. */
async function pgbackrestElsewhere(bench: Workbench, part: string): Promise<void> {
  const production = await bench.cluster()
  const tool = await bench.pgbackrest(production)
  await tool.backup()
  await production.sql('INSERT INTO t VALUES (1001)')
  await production.switchWal()
  await bench.seal()
  const elsewhere = join(await bench.place('elsewhere'), 'part')
  await rename(join(repositoryPath(bench.directory), part), elsewhere)
  await symlink(elsewhere, join(repositoryPath(bench.directory), part))
  await bench.seal({ again: true })
}
