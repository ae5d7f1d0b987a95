/** Damage and nonsense in a pgBackRest repository: always an error that names the thing, never zeros and never a hang. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import type { OpenBackup, Repository } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { HowdahError } from '../../messages/errors.ts'
import { extractFixture, type Fixture, openForTest, temporaryDirectory } from './fixture.ts'

const run = promisify(execFile)

describe('a damaged pgBackRest repository', function () {
  this.timeout(30_000)
  let fixture: Fixture
  let scratch: string
  let root: string
  let full: string
  let incremental: string
  let spool: Spool
  let repository: Repository

  before(async function () {
    const extracted = await extractFixture('plain-gz-incr')
    if (extracted === undefined) return this.skip()
    fixture = extracted
    full = fixture.labels[0] ?? ''
    incremental = fixture.labels[2] ?? ''
    // Every test has a copy of its own: only what is damaged is worth copying.
    for (const label of fixture.labels.slice(1)) {
      const directory = join(fixture.repository, 'backup/demo', label)
      for (const part of ['pg_data', 'pg_tblspc']) await rm(join(directory, part), { recursive: true })
    }
    for (const database of ['4', '5']) {
      await rm(join(fixture.repository, 'backup/demo', full, 'pg_data/base', database), { recursive: true })
    }
  })
  after(async () => {
    if (fixture !== undefined) await rm(fixture.directory, { recursive: true, force: true })
  })
  beforeEach(async () => {
    scratch = await temporaryDirectory()
    root = join(scratch, 'repo')
    await run('cp', ['-a', fixture.repository, root])
    const opened = openForTest({ format: 'pgbackrest', path: root }, join(scratch, 'spool'))
    repository = opened.repository
    spool = opened.spool
  })
  afterEach(async () => {
    await spool.close()
    await rm(scratch, { recursive: true, force: true })
  })

  const open = async (label = full) => (await repository.instance('demo')).open(label)
  const stored = (label: string, name: string) => join(root, 'backup/demo', label, name)
  const manifest = (label = full) => stored(label, 'backup.manifest')

  async function failure(work: () => Promise<unknown>): Promise<HowdahError> {
    try {
      await work()
    } catch (error) {
      expect(error).to.be.instanceOf(HowdahError)
      return error as HowdahError
    }
    throw new Error('nothing failed')
  }

  async function entry(backup: OpenBackup, wanted: (entry: TreeEntry) => boolean): Promise<TreeEntry> {
    for await (const batch of backup.tree()) {
      const found = batch.find(wanted)
      if (found !== undefined) return found
    }
    throw new Error('no such entry')
  }
  const read = async (path: string, offset = 0, length = 8192) => {
    const backup = await open()
    return backup.read((await entry(backup, (one) => one.path === path)).file ?? -1, offset, length)
  }

  /** Rewrites a manifest with a checksum that is right again. */
  async function forge(change: (text: string) => string): Promise<void> {
    const text = change(
      (await readFile(manifest(), 'utf8')).replace(/\n\[backrest\]\nbackrest-checksum=.*\n$/, ''),
    )
    const sections: string[] = []
    let keys: string[] = []
    let name = ''
    const close = () => {
      if (keys.length > 0) sections.push(`${JSON.stringify(name)}:{${keys.join(',')}}`)
      keys = []
    }
    for (const line of text.split('\n')) {
      if (line === '') continue
      const header = /^\[(.*)\]$/.exec(line)?.[1]
      if (header !== undefined) {
        close()
        name = header
      } else {
        const equals = line.indexOf('=')
        keys.push(`${JSON.stringify(line.slice(0, equals))}:${line.slice(equals + 1)}`)
      }
    }
    close()
    const checksum = createHash('sha1')
      .update(`{${sections.join(',')}}`)
      .digest('hex')
    await writeFile(manifest(), `${text}\n[backrest]\nbackrest-checksum="${checksum}"\n`)
    await rm(`${manifest()}.copy`)
  }

  it('names the instances that exist when another is requested', async () => {
    const error = await failure(() => repository.instance('nonsense'))
    expect(error.code).to.equal('unknown_instance')
    expect(error.message).to.include('demo')
    expect((await failure(() => repository.instance('..'))).code).to.equal('unknown_instance')
  })

  it('names the backups that exist when another is requested', async () => {
    const error = await failure(() => open('20200101-000000F'))
    expect(error.code).to.equal('unknown_backup')
    expect(error.message).to.include(full).and.include(incremental)
    expect((await failure(() => open('../demo'))).code).to.equal('unknown_backup')
  })

  it('is unavailable when its directory is', async () => {
    await rename(root, `${root}.away`)
    const error = await failure(() => repository.instances())
    expect(error.code).to.equal('repository_unavailable')
    expect(error.message).to.include(root)
  })

  it('names file and backup when the file is missing', async () => {
    await unlink(stored(full, 'pg_data/PG_VERSION.gz'))
    const error = await failure(() => read('data/PG_VERSION'))
    expect(error.code).to.equal('backup_damaged')
    expect(error.message).to.include('pg_data/PG_VERSION').and.include(full).and.include('missing')
  })

  it('names the file of another backup that an incremental one refers to', async () => {
    await unlink(stored(full, 'pg_data/PG_VERSION.gz'))
    const backup = await open(incremental)
    const { file } = await entry(backup, ({ path }) => path === 'data/PG_VERSION')
    const error = await failure(() => backup.read(file ?? -1, 0, 10))
    expect(error.message).to.include(incremental).and.include(stored(full, 'pg_data/PG_VERSION.gz'))
  })

  it('notices a file that was cut short, small or large', async () => {
    const backup = await open()
    for (const limit of [0, 1024 * 1024]) {
      const found = await entry(backup, ({ size, path }) => size > limit && path.startsWith('data/base/'))
      const path = stored(full, `${found.path.replace('data/', 'pg_data/')}.gz`)
      await truncate(path, (await readFile(path)).length - 9)
      const error = await failure(() => backup.read(found.file ?? -1, found.size - 100, 100))
      expect(error.code).to.equal('backup_damaged')
      expect(error.message).to.include(path)
    }
  })

  it('notices flipped bytes, small or large, in the stream or its checksum', async () => {
    const backup = await open()
    for (const [limit, at] of [
      [0, 0.5],
      [1024 * 1024, 0.5],
      [20_000, 1],
    ] as const) {
      const found = await entry(backup, ({ size, path }) => size > limit && path.startsWith('data/base/'))
      const path = stored(full, `${found.path.replace('data/', 'pg_data/')}.gz`)
      const bytes = await readFile(path)
      const index = Math.min(Math.floor(bytes.length * at), bytes.length - 6)
      bytes.writeUInt8(bytes.readUInt8(index) ^ 0x55, index)
      await writeFile(path, bytes)
      const error = await failure(() => backup.read(found.file ?? -1, found.size - 100, 100))
      expect(error.code).to.equal('backup_damaged')
      expect(error.message).to.include(path)
    }
  })

  it('notices a file that was replaced by another valid one', async () => {
    await cp(stored(full, 'pg_data/base/1/113.gz'), stored(full, 'pg_data/base/1/112.gz'))
    expect((await failure(() => read('data/base/1/112'))).code).to.equal('backup_damaged')
  })

  it('uses the copy of a manifest that is damaged or missing', async () => {
    await writeFile(manifest(), (await readFile(manifest(), 'utf8')).replace('"size":8192', '"size":8193'))
    expect((await open()).fileCount).to.be.greaterThan(1000)
    await unlink(manifest())
    expect((await open()).fileCount).to.be.greaterThan(1000)
  })

  it('names both manifests when neither is valid', async () => {
    await writeFile(manifest(), 'nonsense')
    await truncate(`${manifest()}.copy`, 1000)
    const error = await failure(() => open())
    expect(error.code).to.equal('backup_damaged')
    expect(error.message).to.include(`${manifest()}: `).and.include(`${manifest()}.copy: `)
  })

  it('lists a backup without manifest as unusable', async () => {
    await unlink(manifest())
    await unlink(`${manifest()}.copy`)
    const [first, second] = await (await repository.instance('demo')).backups()
    expect(first?.unusable).to.include('manifest')
    expect(second?.unusable).to.equal(undefined)
  })

  it('uses the copy of a damaged backup.info, and refuses when both are damaged', async () => {
    const info = join(root, 'backup/demo/backup.info')
    await writeFile(info, '[backup:current]\n')
    expect(await (await repository.instance('demo')).backups()).to.have.length(3)
    await writeFile(`${info}.copy`, '')
    const error = await failure(async () => (await repository.instance('demo')).backups())
    expect(error.code).to.equal('backup_damaged')
    expect(error.message).to.include(info)
  })

  for (const path of [
    'pg_data/../../../../etc/passwd',
    'pg_data//x',
    'pg_data/./x',
    '/etc/passwd',
    'pg_data/x/',
  ]) {
    it(`refuses a manifest with the path ${path}`, async () => {
      await forge((text) => text.replace('\npg_data/base/1/112=', `\n${path}=`))
      const error = await failure(() => open())
      expect(error.code).to.equal('backup_damaged')
      expect(error.message).to.include('backup.manifest')
    })
  }

  it('refuses a manifest with a reference that is no label', async () => {
    await forge((text) => text.replace(/^(pg_data\/base\/1\/112=\{)/m, '$1"reference":"../../../../tmp",'))
    expect((await failure(() => open())).code).to.equal('backup_damaged')
  })

  it('opens a forged manifest that is valid, so that the refusals above are due to the change', async () => {
    await forge((text) => text)
    expect((await open()).fileCount).to.be.greaterThan(1000)
  })

  it('refuses a manifest of another backup', async () => {
    await cp(manifest(incremental), manifest())
    const error = await failure(() => open())
    expect(error.message).to.include(incremental)
  })

  it('does not follow a symbolic link out of the repository', async () => {
    const path = stored(full, 'pg_data/PG_VERSION.gz')
    await rename(path, join(scratch, 'outside.gz'))
    await symlink(join(scratch, 'outside.gz'), path)
    const error = await failure(() => read('data/PG_VERSION'))
    expect(error.code).to.equal('configuration')
    expect(error.message)
      .to.include(`${path} is a symbolic link to ${join(scratch, 'outside.gz')}`)
      .and.include('linkTargets')
  })

  it('does not wait for a directory or device in place of a file', async () => {
    const path = stored(full, 'pg_data/PG_VERSION.gz')
    await unlink(path)
    await mkdir(path)
    expect((await failure(() => read('data/PG_VERSION'))).code).to.equal('backup_damaged')
  })

  describe('WAL', () => {
    const archive = () => join(root, 'archive/demo/15-1/0000000100000000')
    const segment = '000000010000000000000004'
    const file = async () => {
      const name = (await readdir(archive())).find((one) => one.startsWith(`${segment}-`)) ?? ''
      return join(archive(), name)
    }

    it('refuses two contents of one segment', async () => {
      const path = await file()
      await cp(path, path.replace(/-[0-9a-f]{40}/, `-${'0'.repeat(40)}`))
      const backup = await open()
      const error = await failure(() => backup.walSize(segment))
      expect(error.code).to.equal('backup_damaged')
      expect(error.message).to.include(segment)
    })

    it('notices a segment that does not match the checksum in its name', async () => {
      const path = await file()
      await rename(path, path.replace(/-[0-9a-f]{40}/, `-${'0'.repeat(40)}`))
      const backup = await open()
      const error = await failure(() => backup.walRead(segment, 0, 100))
      expect(error.code).to.equal('backup_damaged')
      expect(error.message).to.include(segment)
    })

    it('notices a truncated segment', async () => {
      await truncate(await file(), 1000)
      const backup = await open()
      expect((await failure(() => backup.walSize(segment))).code).to.equal('backup_damaged')
    })

    it('uses a partial segment only where there is no full one', async () => {
      const path = await file()
      await cp(path, path.replace(segment, `${segment}.partial`).replace(/[0-9a-f]{40}/, '0'.repeat(40)))
      const backup = await open()
      expect(await backup.walSize(segment)).to.equal(16 * 1024 * 1024)
      const other = '0000000100000000000000FE'
      await cp(path, path.replace(segment, `${other}.partial`))
      expect(await backup.walSize(other)).to.equal(16 * 1024 * 1024)
    })

    it('finds a segment and a history file that come while the backup is open', async () => {
      const backup = await open()
      const later = '0000000100000000000000FF'
      expect(await backup.walSize(later)).to.equal(undefined)
      expect(await backup.walSize('00000002.history')).to.equal(undefined)
      await cp(await file(), (await file()).replace(segment, later))
      await writeFile(join(root, 'archive/demo/15-1/00000002.history'), '1\t0/9000000\tno reason\n')
      expect(await backup.walSize(later)).to.equal(16 * 1024 * 1024)
      expect(await backup.walSize('00000002.history')).to.equal(22)
    })

    it('refuses to open a backup without archive.info', async () => {
      for (const suffix of ['', '.copy']) await unlink(join(root, `archive/demo/archive.info${suffix}`))
      expect((await failure(() => open())).message).to.include('archive.info')
    })
  })
})
