/** The tree of a backup in columns: what it knows, how it travels to another thread, and its file. */
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads'
import { expect } from 'chai'
import type { TreeEntry } from '../../agents/dataplane/backup-source.ts'
import {
  BaseTree,
  buildBaseTree,
  parseBaseTree,
  ROOT,
  type TreeColumns,
} from '../../agents/target/filesystem/tree/base-tree.ts'
import {
  type ExtraFile,
  type PublishedEntry,
  publishedTree,
} from '../../agents/target/filesystem/tree/published-tree.ts'
import type { HowdahError } from '../../messages/errors.ts'
import { makeTree } from '../dataplane/memory-source.ts'

const directory = (path: string): TreeEntry => ({ path, kind: 'directory', mode: 0o700, mtime: 1, size: 0 })
const file = (path: string, number = 7): TreeEntry => ({
  path,
  kind: 'file',
  mode: 0o600,
  mtime: 1_700_000_000.25,
  size: 3,
  file: number,
})

async function* inBatches<T>(entries: readonly T[]): AsyncGenerator<readonly T[]> {
  for (let at = 0; at < entries.length; at += 500) yield entries.slice(at, at + 500)
}

const build = (entries: readonly PublishedEntry[]) => buildBaseTree(inBatches(entries))

function find(tree: BaseTree, path: string): number {
  let ino = ROOT
  for (const name of path.split('/')) ino = tree.lookup(ino, name)
  return ino
}

/** Everything that a tree has about its entries. */
function everything(tree: BaseTree): unknown[] {
  return Array.from({ length: tree.count }, (_, index) => {
    const ino = index + 1
    return [
      ...[tree.path(ino), tree.mode(ino), tree.mtime(ino), tree.size(ino), tree.file(ino), tree.nlink(ino)],
      ...[tree.parent(ino), tree.link(ino), tree.content(ino)?.toString(), [...tree.entries(ino)]],
    ]
  })
}

const SAMPLE: readonly PublishedEntry[] = [
  directory('data'),
  file('data/PG_VERSION', 1),
  { path: 'data/link', kind: 'symlink', mode: 0o777, mtime: 2, size: 0, linkTarget: 'base/ü' },
  directory('data/base'),
  directory('data/base/1'),
  file('data/base/1/größe 🐘', 2),
  { ...file('data/base/1/empty'), size: 0 },
  { path: 'data/extra', kind: 'file', mode: 0o640, mtime: 3, size: 5, content: 'hello' },
  file('data/late', 3),
]

describe('the base tree', function () {
  this.timeout(20_000)

  it('knows each entry as it came', async () => {
    const tree = await build(SAMPLE)
    expect(tree.count).to.equal(SAMPLE.length + 1)
    expect(tree.totalBytes).to.equal(3 * 3 + 5)
    for (const entry of SAMPLE) {
      const ino = find(tree, entry.path)
      expect(tree.path(ino)).to.equal(entry.path)
      expect(tree.mode(ino) & 0o7777).to.equal(entry.mode)
      expect(tree.size(ino)).to.equal(entry.size)
      expect(tree.link(ino)).to.equal(entry.linkTarget)
      expect(tree.content(ino)?.toString()).to.equal(entry.content)
      expect(tree.file(ino)).to.equal(entry.size > 0 ? (entry.file ?? -1) : -1)
    }
    expect(tree.mtime(find(tree, 'data/late'))).to.equal(1_700_000_000_250_000_000n)
    expect(tree.nlink(find(tree, 'data'))).to.equal(3)
  })

  it('finds names of any characters, and none that are not there', async () => {
    const tree = await build(SAMPLE)
    const one = find(tree, 'data/base/1')
    expect(tree.name(tree.lookup(one, 'größe 🐘'))).to.equal('größe 🐘')
    for (const name of ['', 'größe', 'grosse', 'empty ', 'EMPTY', 'größe 🐘\0']) {
      expect(tree.lookup(one, name), name).to.equal(0)
    }
    expect(tree.lookup(ROOT, 'base')).to.equal(0)
    expect(tree.lookup(999, 'data')).to.equal(0)
  })

  it('lists directories in the order of the backup', async () => {
    const tree = await build(SAMPLE)
    const names = (path: string) => Array.from(tree.entries(find(tree, path)), ([name]) => name)
    expect(names('data')).to.deep.equal(['PG_VERSION', 'link', 'base', 'extra', 'late'])
    expect(names('data/base/1')).to.deep.equal(['größe 🐘', 'empty'])
    expect(names('data/late')).to.deep.equal([])
  })

  it('holds 100,000 entries in a few megabytes, and finds each', async () => {
    const entries = makeTree(100_000)
    const tree = await build(entries)
    let wrong = 0
    for (const { path } of entries) if (tree.path(find(tree, path)) !== path) wrong += 1
    expect(wrong).to.equal(0)
    const bytes = tree.transfer().transfer.reduce((sum, { byteLength }) => sum + byteLength, 0)
    expect(bytes).to.be.lessThan(8_000_000)
  })

  it('refuses an entry that comes twice, and names it', async () => {
    const failure = await build([...SAMPLE, file('data/base/1/größe 🐘')]).catch((error: unknown) => error)
    expect((failure as HowdahError).code).to.equal('backup_damaged')
    expect((failure as HowdahError).message).to.include('"data/base/1/größe 🐘" twice')
  })

  it('is transferred to another thread without a copy', async () => {
    const tree = await build(SAMPLE)
    const before = everything(tree)
    const { columns, transfer } = tree.transfer()
    const { port1, port2 } = new MessageChannel()
    try {
      port1.postMessage(columns, transfer)
      const received = receiveMessageOnPort(port2)?.message as TreeColumns
      expect(columns.names.length).to.equal(0)
      expect(everything(BaseTree.of(received))).to.deep.equal(before)
    } finally {
      port1.close()
    }
  })

  it('is the same after it was saved and read again', async () => {
    const tree = await build(SAMPLE)
    const saved = tree.serialize()
    const again = parseBaseTree(saved, 'tree')
    expect(everything(again)).to.deep.equal(everything(tree))
    expect(again.totalBytes).to.equal(tree.totalBytes)
    expect(Buffer.from(again.serialize()).equals(saved)).to.equal(true)
  })

  it('is not read from a file that is damaged, cut short or something else', async () => {
    const saved = (await build(SAMPLE)).serialize()
    const expectDamaged = (bytes: Uint8Array) => {
      try {
        parseBaseTree(bytes, '/cache/tree')
      } catch (error) {
        expect((error as HowdahError).code).to.equal('mount_failed')
        expect((error as HowdahError).message).to.include('/cache/tree')
        return
      }
      throw new Error('it was read')
    }
    for (let at = 0; at < saved.length; at += 7) {
      const bytes = saved.slice()
      bytes[at] = (bytes[at] ?? 0) ^ 0x10
      expectDamaged(bytes)
    }
    for (const length of [0, 10, 100, saved.length - 1]) expectDamaged(saved.slice(0, length))
    expectDamaged(Buffer.concat([saved, Buffer.alloc(8)]))
    expectDamaged(Buffer.from('{"format":1}'))
  })

  it('has one fingerprint for all sessions of a backup, and another for any other', async () => {
    const published = async (entries: readonly TreeEntry[], session: string, extraFiles: ExtraFile[]) => {
      const options = {
        mountPoint: `/tmp/${session}`,
        walDirectory: `/wal/${session}`,
        extraFiles,
        now: session.length,
      }
      return (await buildBaseTree(publishedTree(inBatches(entries), options))).fingerprint()
    }
    const backup = [directory('data'), ...[1, 2, 3].map((n) => file(`data/${n}`, n))]
    const first = await published(backup, 'one', [])
    expect(first).to.match(/^[0-9a-f]{64}$/)
    expect(await published(backup, 'another', [{ path: 'data/recovery.signal', content: 'x' }])).to.equal(
      first,
    )
    const others = [
      { ...file('data/3', 3), size: 4 },
      { ...file('data/3', 3), mtime: 9 },
      file('data/3', 4),
      file('data/33', 3),
    ]
    for (const other of others)
      expect(await published([...backup.slice(0, 3), other], 'one', [])).to.not.equal(first)
    const many = makeTree(3000)
    expect(await published(many, 'a', [])).to.not.equal(await published(many.slice(0, -1), 'a', []))
  })
})
