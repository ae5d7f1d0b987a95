import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import { buildBaseTree } from '../../agents/target/filesystem/tree/base-tree.ts'
import { type PublishedEntry, publishedTree } from '../../agents/target/filesystem/tree/published-tree.ts'
import type { HowdahError } from '../../messages/errors.ts'

const directory = (path: string): TreeEntry => ({ path, kind: 'directory', mode: 0o750, mtime: 1, size: 0 })
const file = (path: string): TreeEntry => ({ path, kind: 'file', mode: 0o4640, mtime: 1, size: 3, file: 7 })
const link = (path: string, linkTarget: string): TreeEntry => ({
  path,
  kind: 'symlink',
  mode: 0o777,
  mtime: 1,
  size: 0,
  linkTarget,
})

async function* batches(entries: readonly TreeEntry[]): AsyncGenerator<readonly TreeEntry[]> {
  yield entries
}

const OPTIONS = {
  mountPoint: '/tmp/howdah/s1',
  walDirectory: '/var/tmp/howdah/s1/pg_wal',
  extraFiles: [{ path: 'data/recovery.signal', content: '' }],
  now: 5,
}

async function publish(...entries: TreeEntry[]): Promise<Map<string, PublishedEntry>> {
  const published = new Map<string, PublishedEntry>()
  for await (const batch of publishedTree(batches([directory('data'), ...entries]), OPTIONS)) {
    for (const entry of batch) published.set(entry.path, entry)
  }
  return published
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => (error as HowdahError).code,
  )
}

describe('the published tree', () => {
  it('has data/, tblspc/ and wal/ below its root, for the owner only', async () => {
    const tree = await publish()
    for (const path of ['data', 'tblspc', 'wal']) {
      expect(tree.get(path)).to.include({ kind: 'directory', mode: 0o700 })
    }
  })

  it('points pg_wal and the tablespaces to this target, wherever the backup says they were', async () => {
    const tree = await publish(
      directory('data/pg_wal'),
      file('data/pg_wal/000000010000000000000001'),
      directory('data/pg_tblspc'),
      link('data/pg_tblspc/16400', '/srv/production'),
      directory('tblspc/16400'),
    )
    expect(tree.get('data/pg_wal')).to.include({ kind: 'symlink', linkTarget: OPTIONS.walDirectory })
    expect(tree.get('data/pg_tblspc/16400')).to.include({ linkTarget: '/tmp/howdah/s1/tblspc/16400' })
    expect(tree.has('data/pg_wal/000000010000000000000001')).to.equal(false)
  })

  it('hides what would make it a standby, touch production or belongs to the old postmaster', async () => {
    const hidden = [
      ...['tablespace_map', 'postmaster.pid', 'postmaster.opts', 'standby.signal', 'recovery.conf'],
      ...['recovery.done', 'pg_replslot/slot', 'pg_stat_tmp/x', 'base/pgsql_tmp/pgsql_tmp1.0'],
    ].map((name) => `data/${name}`)
    const tree = await publish(directory('data/pg_replslot'), ...hidden.map(file), file('data/PG_VERSION'))
    expect(hidden.filter((path) => tree.has(path))).to.deep.equal([])
    expect(tree.has('data/pg_replslot')).to.equal(true)
    expect(tree.has('data/PG_VERSION')).to.equal(true)
  })

  it('adds the directories that PostgreSQL needs and the extra files', async () => {
    const tree = await publish(file('data/recovery.signal'))
    for (const name of ['pg_notify', 'pg_twophase', 'pg_logical/snapshots', 'pg_stat_tmp', 'pg_tblspc']) {
      expect(tree.get(`data/${name}`)).to.include({ kind: 'directory' })
    }
    expect(tree.get('data/recovery.signal')).to.include({ size: 0, content: '' })
  })

  it('omits symbolic links that point out of the backup', async () => {
    const tree = await publish(
      link('data/log', '/var/log/postgresql'),
      link('data/up', '../../etc'),
      link('data/fine', 'base/1'),
    )
    expect([tree.has('data/log'), tree.has('data/up'), tree.has('data/fine')]).to.deep.equal([
      false,
      false,
      true,
    ])
  })

  it('lets the owner use everything and drops special bits', async () => {
    const tree = await publish(file('data/x'))
    expect(tree.get('data/x')?.mode).to.equal(0o640)
  })

  it('refuses paths that leave the backup or are not normal', async () => {
    const paths = [
      'data/../x',
      'data//x',
      '/data/x',
      'etc/passwd',
      'tblspc/x/y',
      'data/.',
      'data/a\0b',
      'data/',
      '/x',
      'tblspc/x',
    ]
    for (const path of [...paths, `data/${'x'.repeat(256)}`]) {
      expect(await codeOf(publish(file(path))), path).to.equal('backup_damaged')
    }
  })

  it('checks each name, whatever the directory of the one before it', async () => {
    const wrong = ['data/.', 'data/..', 'data/a\0', `data/${'é'.repeat(128)}`, 'tblspc/x']
    for (const path of wrong) {
      const before = [file('data/a'), directory('tblspc/1')]
      expect(await codeOf(publish(...before, file(path))), path).to.equal('backup_damaged')
      expect(await codeOf(publish(...before.reverse(), file(path))), path).to.equal('backup_damaged')
    }
    const tree = await publish(file('data/a'), file('data/postmaster.pid'), file('data/.b'), file('data/c'))
    expect([...tree.keys()].filter((path) => /^data\/[^p]/.test(path))).to.include.members([
      'data/a',
      'data/.b',
    ])
    expect(tree.has('data/postmaster.pid')).to.equal(false)
  })

  it('refuses an entry that comes twice or without its directory', async () => {
    for (const entries of [[file('data/a'), file('data/a')], [file('data/none/a')]]) {
      const tree = buildBaseTree(publishedTree(batches([directory('data'), ...entries]), OPTIONS))
      expect(await codeOf(tree)).to.equal('backup_damaged')
    }
  })
})
