/** What Barman homes have of their own: states, layouts, WAL without extensions, what cannot be published and why. */
import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { OpenBackup, Repository } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { hasSegment } from '../../agents/mount/wal-listing.ts'
import type { BackupSummary } from '../../messages/values.ts'
import { type Barman, makeBarman } from '../support/barman.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'

const ID = '20260102T030405'

describe('a Barman home', function () {
  this.timeout(120_000)
  let scratch: string
  let home: string
  let spool: Spool
  let repository: Repository

  beforeEach(async () => {
    scratch = await temporaryDirectory()
    home = join(scratch, 'home')
    await mkdir(home)
    use(home)
  })
  afterEach(async () => {
    await spool.close()
    await rm(scratch, { recursive: true, force: true })
  })

  function use(path: string): void {
    const opened = openForTest({ format: 'barman', path }, join(scratch, 'spool'))
    repository = opened.repository
    spool = opened.spool
  }

  const INFO = {
    backup_label: `'START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\\nLABEL: it\\'s'`,
    begin_time: '2026-01-02 03:04:05.123456+02:00',
    begin_wal: '000000010000000000000003',
    begin_xlog: '0/3000028',
    compression: 'None',
    end_time: '2026-01-02 03:05:05+02:00',
    end_wal: '000000010000000000000004',
    end_xlog: '0/4000100',
    error: 'None',
    mode: 'rsync-concurrent',
    size: '1000',
    status: 'DONE',
    systemid: '7710996038688029378',
    tablespaces: `[('it\\'s', 16419, '/srv/a, "b"'), ("two", 16420, '/srv/caf\\xe9')]`,
    timeline: '1',
    version: '150018',
    xlog_segment_size: '16777216',
  }

  async function writeInfo(path: string, changes: Readonly<Record<string, string>> = {}): Promise<void> {
    await mkdir(join(path, '..'), { recursive: true })
    const lines = Object.entries({ ...INFO, ...changes }).map(([key, value]) => `${key}=${value}\n`)
    await writeFile(path, lines.join(''))
  }
  const oldPlace = (server = 'shop', id = ID) => join(home, server, 'base', id, 'backup.info')

  async function only(server = 'shop'): Promise<BackupSummary> {
    const found = await (await repository.instance(server)).backups()
    expect(found).to.have.length(1)
    return found[0] as BackupSummary
  }
  const failure = async (work: Promise<unknown>): Promise<{ code: string; message: string }> =>
    work.then(
      () => {
        throw new Error('nothing failed')
      },
      (error: { code: string; message: string }) => error,
    )

  it('has the servers that have backups or had some, and nothing else', async () => {
    await writeInfo(oldPlace('shop'))
    await mkdir(join(home, 'analytics', 'base'), { recursive: true })
    await mkdir(join(home, 'notes'))
    await mkdir(join(home, '.cache', 'base'), { recursive: true })
    expect(await repository.instances()).to.deep.equal(['analytics', 'shop'])
    expect((await failure(repository.instance('notes'))).message).to.include('analytics, shop')
    const shop = await repository.instance('shop')
    expect((await failure(shop.open('20200101T000000'))).message).to.include(ID)
  })

  it('lists what backup.info says about a backup', async () => {
    await writeInfo(oldPlace())
    expect(await only()).to.deep.equal({
      label: ID,
      type: 'full',
      postgresVersion: '15',
      startedAt: '2026-01-02T01:04:05.123Z',
      stoppedAt: '2026-01-02T01:05:05.000Z',
      bytes: 1000,
      repositoryBytes: 1000,
      systemIdentifier: '7710996038688029378',
      startLsn: '0/3000028',
      stopLsn: '0/4000100',
      timeline: 1,
      startWal: '000000010000000000000003',
      stopWal: '000000010000000000000004',
    })
  })

  it('is read in the layout of 3.13.2 and later, whose backup.info counts where there are both', async () => {
    await writeInfo(oldPlace(), { status: 'STARTED' })
    await writeInfo(join(home, 'shop', 'meta', `${ID}-backup.info`))
    await mkdir(join(home, 'shop', 'base', '20270101T000000'), { recursive: true })
    await writeInfo(join(home, 'shop', 'meta', '20270101T000000-backup.info'), { version: '170002' })
    const found = await (await repository.instance('shop')).backups()
    expect(
      found.map(({ label, postgresVersion, unusable }) => [label, postgresVersion, unusable]),
    ).to.deep.equal([
      [ID, '15', undefined],
      ['20270101T000000', '17', undefined],
    ])
  })

  const refused: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
    ['failed', { status: 'FAILED', error: 'disk full' }, 'failed: disk full'],
    ['is being taken', { status: 'STARTED' }, 'still being taken'],
    ['never began', { status: 'EMPTY' }, 'still being taken'],
    ['is being copied', { status: 'SYNCING' }, 'copied from another Barman'],
    ['is in a state of a later Barman', { status: 'SHINY' }, 'SHINY'],
    [
      'is of volume snapshots',
      { mode: 'snapshot', snapshots_info: `{'provider': 'gcp'}` },
      'volume snapshots',
    ],
    ['is encrypted', { encryption: 'gpg' }, 'encrypted by gpg'],
    ['has tablespaces that cannot be read', { tablespaces: `[('a', '../..', '/x')]` }, 'tablespaces'],
    ['has a start that is none', { begin_xlog: 'zero' }, 'begin_xlog'],
  ]
  for (const [what, changes, reason] of refused) {
    it(`lists a backup that ${what} as unusable, with the reason, and does not open it`, async () => {
      await writeInfo(oldPlace(), changes)
      expect((await only()).unusable).to.include(reason)
      const error = await failure((await repository.instance('shop')).open(ID))
      expect(error.code).to.equal('backup_unsupported')
      expect(error.message).to.include(reason)
    })
  }

  it('lists a backup without backup.info as unusable', async () => {
    await mkdir(join(home, 'shop', 'base', ID), { recursive: true })
    expect((await only()).unusable).to.include('no backup.info')
  })

  it('lists a backup in state WAITING_FOR_WALS as usable once its WAL is complete, whatever xlog.db says', async () => {
    await writeInfo(oldPlace(), { status: 'WAITING_FOR_WALS' })
    const wals = join(home, 'shop', 'wals', '0000000100000000')
    await mkdir(wals, { recursive: true })
    await writeFile(join(wals, '..', 'xlog.db'), '000000010000000000000004\t1\t1\tNone\n')
    await writeFile(join(wals, '000000010000000000000003'), '')
    expect((await only()).unusable).to.include('000000010000000000000004')
    await writeFile(join(wals, '000000010000000000000004'), '')
    // A listing so young may be missing what came in the same moment.
    expect((await only()).unusable).to.equal(undefined)
  })

  it('needs no segment that begins where the backup ends, which PostgreSQL 17 calls its last', async () => {
    const boundary = { end_xlog: '0/5000000', end_wal: '000000010000000000000005', version: '170002' }
    await writeInfo(oldPlace(), { ...boundary, status: 'WAITING_FOR_WALS' })
    const wals = join(home, 'shop', 'wals', '0000000100000000')
    await mkdir(wals, { recursive: true })
    for (const last of ['3', '4']) await writeFile(join(wals, `00000001000000000000000${last}`), '')
    const summary = await only()
    expect(summary.unusable).to.equal(undefined)
    expect(summary).to.include({ stopLsn: '0/5000000', stopWal: '000000010000000000000004' })
  })

  it('refuses an incremental backup whose parent is gone', async () => {
    await writeInfo(oldPlace(), { parent_backup_id: '20250101T000000', tablespaces: 'None' })
    await mkdir(join(home, 'shop', 'base', ID, 'data'))
    await writeFile(join(home, 'shop', 'base', ID, 'data', 'PG_VERSION'), '17\n')
    const summary = await only()
    expect(summary).to.include({ type: 'incremental', parent: '20250101T000000' })
    expect(summary.unusable).to.equal('it builds on backup 20250101T000000, which is not there')
    const error = await failure((await repository.instance('shop')).open(ID))
    expect(error).to.include({ code: 'backup_unsupported' })
    expect(error.message).to.include('20250101T000000')
  })

  describe('of a production', () => {
    let production: Production
    let barman: Barman
    let id: string
    let backup: OpenBackup

    before(async () => {
      production = await makeProduction({ configuration: 'outside' })
      barman = await makeBarman(production)
      id = await barman.backup('files')
    })
    after(() => production?.remove())
    beforeEach(async () => {
      await spool.close()
      use(barman.home)
      backup = await (await repository.instance('files')).open(id)
    })

    it('has the configuration files that are outside of the data directory', async () => {
      for (const name of ['postgresql.conf', 'pg_hba.conf']) {
        const entry = backup.entry(`data/${name}`)
        const found = await backup.read(entry?.file ?? -1, 0, entry?.size ?? 0)
        const original = await readFile(join(production.directory, 'etc', name), 'utf8')
        expect(found.toString(), name).to.equal(original)
      }
    })

    it('recognises the compression of WAL by its first bytes, and says what other files would need', async () => {
      const name = backup.summary.startWal ?? ''
      const path = join(barman.home, 'files', 'wals', name.slice(0, 16), name)
      const plain = await barman.getWal('files', name)
      const stored = await readFile(path)
      const by = (program: string) =>
        execFileSync(program, ['-1', '-c'], {
          input: plain,
          maxBuffer: 1e8,
          stdio: ['pipe', 'pipe', 'ignore'],
        })
      try {
        for (const [what, bytes] of [
          ['plain', plain],
          ['gzip', by('gzip')],
          ['bzip2', by('bzip2')],
          ['zstd', by('zstd')],
          ['lz4', by('lz4')],
        ] as const) {
          await writeFile(path, bytes)
          expect(await backup.walSize(name), what).to.equal(plain.length)
          expect((await backup.walRead(name, 0, plain.length)).equals(plain), what).to.equal(true)
        }
        for (const [what, bytes] of [
          ['xz', by('xz')],
          ['snappy', Buffer.from('ff060000734e615070590000', 'hex')],
          ['custom compression', Buffer.from('8501deadbeef', 'hex')],
        ] as const) {
          await writeFile(path, bytes)
          const error = await failure(backup.walSize(name))
          expect(error).to.include({ code: 'backup_unsupported' })
          expect(error.message).to.include(what).and.include(name)
        }
      } finally {
        await writeFile(path, stored)
      }
    })

    it('has WAL that was received and not archived yet, partial segments last', async () => {
      const streaming = join(barman.home, 'files', 'streaming')
      const name = '0000000100000000000000F0'
      const segment = Buffer.alloc(16 * 1024 * 1024, 'partial')
      segment.writeUInt16LE(0xd110, 0)
      await writeFile(join(streaming, `${name}.partial`), segment)
      try {
        expect((await backup.walRead(name, 2, 5)).toString()).to.equal('rtial')
        const wal = await (await repository.instance('files')).wal(backup.summary)
        expect(hasSegment(await wal.list(), name)).to.equal(true)
        segment.write('whole', 2)
        await writeFile(join(streaming, name), segment)
        expect((await backup.walRead(name, 2, 5)).toString()).to.equal('whole')
      } finally {
        await rm(join(streaming, `${name}.partial`))
        await rm(join(streaming, name), { force: true })
      }
    })

    it('is not opened when a tablespace is missing or is a link to elsewhere', async () => {
      const base = join(barman.home, 'files', 'base', id)
      const [oid = ''] = backup.tablespaces
      await rename(join(base, oid), join(base, 'away'))
      const open = async () => (await repository.instance('files')).open(id)
      try {
        expect(await failure(open())).to.include({ code: 'backup_damaged' })
        await symlink('/etc', join(base, oid))
        const error = await failure(open())
        await unlink(join(base, oid))
        expect(error).to.include({ code: 'configuration' })
        expect(error.message).to.include(`${join(base, oid)} is a symbolic link to /etc`)
      } finally {
        await rename(join(base, 'away'), join(base, oid))
      }
    })
  })
})
