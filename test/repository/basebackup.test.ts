/** What pg_basebackup directories have of their own: layouts, labels, tablespaces elsewhere, WAL from two places. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rename, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import type { Repository } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { POSTGRES_MAJOR } from '../support/installed-postgres.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type MadeMember, makeTar } from '../support/tar.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'

const run = promisify(execFile)

describe('a repository of pg_basebackup directories', function () {
  this.timeout(60_000)
  let production: Production
  let original: string
  let scratch: string
  let root: string
  let spool: Spool
  let repository: Repository

  before(async () => {
    production = await makeProduction()
    original = join(production.directory, 'backups/monday')
    await production.basebackup(original)
  })
  after(() => production?.remove())

  beforeEach(async () => {
    scratch = await temporaryDirectory()
    root = join(scratch, 'repository')
    await mkdir(join(root, 'shop'), { recursive: true })
    use()
  })
  afterEach(async () => {
    await spool.close()
    await rm(scratch, { recursive: true, force: true })
  })

  function use(walPath?: string): void {
    const options = {
      format: 'basebackup' as const,
      path: root,
      ...(walPath === undefined ? {} : { walPath }),
    }
    const opened = openForTest(options, join(scratch, 'spool'))
    repository = opened.repository
    spool = opened.spool
  }

  /** A copy whose tablespace is in the repository, unless the options say otherwise. */
  async function place(directory: string, tablespace = `${directory}.tblspc`): Promise<void> {
    await run('cp', ['-a', original, directory])
    await run('cp', ['-a', `${original}.tblspc`, tablespace])
    for (const oid of await readdir(join(directory, 'pg_tblspc'))) {
      await unlink(join(directory, 'pg_tblspc', oid))
      await symlink(tablespace, join(directory, 'pg_tblspc', oid))
    }
  }
  const backups = async () => (await repository.instance('shop')).backups()
  const open = async (label: string) => (await repository.instance('shop')).open(label)
  const failure = async (work: Promise<unknown>): Promise<{ code: string; message: string }> =>
    work.then(
      () => {
        throw new Error('nothing failed')
      },
      (error: { code: string; message: string }) => error,
    )

  it('finds instances that are a backup and instances that contain several, and nothing else', async () => {
    await place(join(root, 'shop/monday'))
    await place(join(root, 'shop/tuesday'))
    await place(join(root, 'single'))
    await mkdir(join(root, 'notes'))
    expect(await repository.instances()).to.deep.equal(['shop', 'single'])
    expect((await backups()).map(({ label }) => label)).to.have.members(['monday', 'tuesday'])
    const single = await repository.instance('single')
    expect((await single.backups()).map(({ label }) => label)).to.deep.equal(['single'])
    expect((await failure(repository.instance('notes'))).message).to.include('shop, single')
    expect((await failure(open('friday'))).message).to.include('monday, tuesday')
  })

  it('reads from label and manifest when it started, where it stopped, and which WAL it needs', async () => {
    await place(join(root, 'shop/monday'))
    const [summary] = await backups()
    const label = await readFile(join(original, 'backup_label'), 'utf8')
    expect(label).to.include(summary?.startLsn).and.include(summary?.startWal)
    expect(summary).to.include({ type: 'full', timeline: 1, postgresVersion: POSTGRES_MAJOR })
    expect(summary?.startedAt).to.match(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z$/)
    expect(summary?.stoppedAt).to.match(/Z$/)
    expect(await readdir(join(original, 'pg_wal'))).to.include(summary?.stopWal)
    expect(summary?.stopLsn).to.match(/^0\/[0-9A-F]+$/)
  })

  it('lists as unusable what has no backup_label or a damaged archive', async () => {
    await place(join(root, 'shop/monday'))
    await unlink(join(root, 'shop/monday/backup_label'))
    await mkdir(join(root, 'shop/tar'))
    await writeFile(join(root, 'shop/tar/base.tar.gz'), '')
    const found = new Map((await backups()).map(({ label, unusable }) => [label, unusable]))
    expect(found.get('monday')).to.include('backup_label')
    expect(found.get('tar')).to.include('base.tar.gz')
    expect((await failure(open('monday'))).code).to.equal('backup_unsupported')
    expect((await failure(open('tar'))).code).to.equal('backup_unsupported')
  })

  it('refuses tablespaces outside of the repository, saying what to do', async () => {
    await place(join(root, 'shop/monday'), join(scratch, 'elsewhere'))
    expect((await backups())[0]?.unusable)
      .to.include('elsewhere')
      .and.include('-T')
    expect((await failure(open('monday'))).code).to.equal('backup_unsupported')
  })

  it('notices a missing file and one that was cut short', async () => {
    await place(join(root, 'shop/monday'))
    const version = join(root, 'shop/monday/base/1/PG_VERSION')
    await rename(version, `${version}.away`)
    const missing = await failure(open('monday'))
    expect(missing.code).to.equal('backup_damaged')
    expect(missing.message).to.include('base/1/PG_VERSION')
    await rename(`${version}.away`, version)
    await truncate(version, 1)
    expect((await failure(open('monday'))).message).to.include(version)
  })

  it('notices flipped bytes: of a small file before its first read, of a large one once it was read whole', async () => {
    await place(join(root, 'shop/monday'))
    const opened = await open('monday')
    const entries: TreeEntry[] = []
    for await (const batch of opened.tree()) entries.push(...batch)
    const large = entries.find(({ path, size }) => path.startsWith('data/base/') && size > 2 * 1024 * 1024)
    const small = entries.find(({ path }) => path === 'data/global/pg_control')
    const read = async (entry: (typeof entries)[number] | undefined) => {
      const backup = await open('monday')
      for (let offset = 0; offset < (entry?.size ?? 0); offset += 300_000) {
        await backup.read(entry?.file ?? -1, offset, 300_000)
      }
    }
    for (const entry of [large, small]) {
      await read(entry)
      const path = join(root, 'shop/monday', entry?.path.slice('data/'.length) ?? '')
      const contents = await readFile(path)
      contents[4000] = (contents[4000] ?? 0) ^ 1
      await writeFile(path, contents)
      const error = await failure(read(entry))
      expect(error).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include(path).and.include('checksum')
    }
  })

  describe('in tar format', () => {
    const label = Buffer.from('START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n')
    const usual: readonly MadeMember[] = [
      { name: 'backup_label', data: label },
      { name: 'PG_VERSION', data: Buffer.from('15\n') },
      { name: 'global/', type: '5' },
      { name: 'global/pg_control', data: Buffer.alloc(8192) },
    ]
    async function make(archives: Readonly<Record<string, readonly MadeMember[]>>): Promise<void> {
      const directory = join(root, 'shop/archived')
      await mkdir(directory)
      for (const [name, members] of Object.entries(archives)) {
        await writeFile(join(directory, `${name}.tar.gz`), gzipSync(makeTar(members)))
      }
    }

    it('refuses symbolic links, which PostgreSQL never puts there', async () => {
      await make({ base: [...usual, { name: 'base', type: '2', linkName: '/etc' }] })
      const error = await failure(open('archived'))
      expect(error).to.include({ code: 'backup_unsupported' })
      expect(error.message).to.include('"base"').and.include('/etc').and.include('base.tar.gz')
    })

    it('refuses paths that lead outside, naming archive and backup', async () => {
      await make({ base: [...usual, { name: '../../../etc/passwd', data: label }] })
      const error = await failure(open('archived'))
      expect(error.code).to.be.oneOf(['backup_damaged', 'backup_unsupported'])
      expect(error.message).to.include('base.tar.gz').and.include('archived').and.include('etc/passwd')
    })

    it('notices that the archive of a tablespace is missing', async () => {
      const map = Buffer.from('16419 /srv/fast\n')
      await make({
        base: [...usual, { name: 'tablespace_map', data: map }, { name: 'pg_tblspc', type: '5' }],
      })
      const error = await failure(open('archived'))
      expect(error).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include('16419.tar').and.include('/srv/fast')
    })

    it('refuses an archive with the same member twice', async () => {
      await make({ base: [...usual, { name: 'PG_VERSION', data: Buffer.from('16\n') }] })
      expect((await failure(open('archived'))).message)
        .to.include('PG_VERSION')
        .and.include('twice')
    })

    it('refuses a manifest that does not match its own checksum', async () => {
      await make({ base: usual })
      await writeFile(
        join(root, 'shop/archived/backup_manifest'),
        '{"Files": [],\n"Manifest-Checksum": "00"}\n',
      )
      expect((await failure(open('archived'))).message)
        .to.include('backup_manifest')
        .and.include('checksum')
    })
  })

  it('takes WAL from walPath first, compressed or not, then from the backup, then partial', async () => {
    await place(join(root, 'shop/monday'))
    const own = join(root, 'shop/monday/pg_wal')
    const [carried = ''] = (await readdir(own)).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort()
    const walPath = join(scratch, 'wal')
    await mkdir(walPath)
    const marked = Buffer.alloc(16 * 1024 * 1024, 'archived')
    await writeFile(join(walPath, `${carried}.gz`), gzipSync(marked, { level: 1 }))
    await writeFile(join(walPath, '0000000100000000000000AA'), marked)
    await writeFile(join(walPath, '0000000100000000000000AB.partial'), marked)
    await writeFile(join(walPath, '00000002.history'), 'history')
    await spool.close()
    use(walPath)
    const backup = await open('monday')
    for (const name of [carried, '0000000100000000000000AA', '0000000100000000000000AB']) {
      expect(await backup.walSize(name), name).to.equal(marked.length)
      expect((await backup.walRead(name, 8, 8)).toString(), name).to.equal('archived')
    }
    expect((await backup.walRead('00000002.history', 0, 100)).toString()).to.equal('history')
    await unlink(join(walPath, `${carried}.gz`))
    expect(
      (await backup.walRead(carried, 0, 100)).equals((await readFile(join(own, carried))).subarray(0, 100)),
    ).to.equal(true)
  })
})
