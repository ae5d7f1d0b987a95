/**
 * A chain of PostgreSQL 17 that its pg_basebackup took: the full backup by the conformance suite, the last one compared with
 * the digests of what pg_combinebackup made of the chain, and the pages of all by their checksums.
 */
import { createHash } from 'node:crypto'
import { cp, mkdir, readdir, readFile, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import { clusterPages } from '../../agents/mount/pages/cluster-pages.ts'
import { type DamagedBlock, verifiedBackup } from '../../agents/mount/pages/verified-backup.ts'
import type { Instance, OpenBackup } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { conforms } from './conformance.ts'
import { extractFixture, type Fixture, openForTest } from './fixture.ts'

describe('the fixture pg17-incremental', function () {
  this.timeout(60_000)
  let fixture: Fixture
  let spool: Spool
  let instance: Instance

  before(async function () {
    const extracted = await extractFixture('pg17-incremental')
    if (extracted === undefined) return this.skip()
    fixture = extracted
    const opened = openForTest(
      { format: 'basebackup', path: fixture.repository },
      join(fixture.directory, 'spool'),
    )
    spool = opened.spool
    instance = await opened.repository.instance('demo')
  })
  after(async () => {
    await spool?.close()
    if (fixture !== undefined) await rm(fixture.directory, { recursive: true })
  })

  /** Each file of the backup with its bytes. */
  async function* filesOf(backup: OpenBackup): AsyncGenerator<[TreeEntry, Buffer]> {
    for await (const batch of backup.tree()) {
      for (const entry of batch) {
        if (entry.kind !== 'file') continue
        yield [
          entry,
          entry.file === undefined ? Buffer.alloc(0) : await backup.read(entry.file, 0, entry.size),
        ]
      }
    }
  }

  conforms('its full backup', async () => {
    const data = join(fixture.repository, 'demo/full')
    const tablespaces = join(fixture.directory, 'tablespaces')
    await mkdir(tablespaces)
    for (const oid of await readdir(join(data, 'pg_tblspc'))) {
      await cp(await realpath(join(data, 'pg_tblspc', oid)), join(tablespaces, oid), {
        ...{ recursive: true, preserveTimestamps: true },
      })
    }
    const wal = (await readdir(join(data, 'pg_wal'))).filter((name) => name.length === 24)
    return {
      ...{ format: 'basebackup', repository: fixture.repository, instance: 'demo', label: 'full' },
      ...{ data, tablespaces, ignored: [], wal },
      getWal: (name) => readFile(join(data, 'pg_wal', name)),
    }
  })

  it('is listed as a chain', async () => {
    const found = await instance.backups()
    expect(found.map(({ label, type, parent, unusable }) => [label, type, parent, unusable])).to.deep.equal([
      ['full', 'full', undefined, undefined],
      ['incr1', 'incremental', 'full', undefined],
      ['incr2', 'incremental', 'incr1', undefined],
    ])
  })

  it('has the files of the last backup that pg_combinebackup made', async () => {
    const expected = new Map<string, string>()
    const lines = (await readFile(join(fixture.directory, 'combined-incr2.sha256'), 'utf8'))
      .trim()
      .split('\n')
    for (const line of lines) {
      const [digest = '', path = ''] = line.split(/ +/)
      expected.set(path.replace('./', 'data/'), digest)
    }
    expect(expected.size).to.be.greaterThan(1000)
    const found = new Map<string, string>()
    const backup = await instance.open('incr2')
    for await (const [{ path }, bytes] of filesOf(backup)) {
      if (path.startsWith('data/base/')) found.set(path, createHash('sha256').update(bytes).digest('hex'))
    }
    expect([...found].sort()).to.deep.equal([...expected].sort())
  })

  it('has no page that is not what PostgreSQL wrote, in any of its backups', async () => {
    for (const label of fixture.labels) {
      const damages: DamagedBlock[] = []
      const backup = verifiedBackup(await instance.open(label), (damage) => void damages.push(damage))
      let pages = 0
      for await (const [{ path }, bytes] of filesOf(backup)) {
        if (path === 'data/global/pg_control') expect(clusterPages(bytes)).to.not.equal(undefined)
        if (/\/\d+$/.test(path)) pages += bytes.length / 8192
      }
      expect(damages, label).to.deep.equal([])
      expect(pages, label).to.be.greaterThan(3000)
    }
  })
})
