import { existsSync } from 'node:fs'
import { expect } from 'chai'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import type { Batch } from '../../agents/target/filesystem/durability/journal.ts'
import type { FileSystemError } from '../../agents/target/filesystem/file-system.ts'
import type { Services } from '../../agents/target/filesystem/services.ts'
import { type Fixture, makeFixture } from './support/engine-fixture.ts'
import { memorySource, pattern } from './support/memory-source.ts'

const TABLE = 'data/base/1/1000'
const OTHER = 'data/base/2/1001'

/** Services whose commits and syncs wait to be let through, or fail. */
class Held {
  readonly batches: Batch[] = []
  syncs = 0
  /** Syncs that are over. */
  synced = 0
  holding = false
  failCommit: Error | undefined
  failSync: Error | undefined
  #waiting: (() => void)[] = []

  readonly over = (services: Services): Services => ({
    ...services,
    sync: async (fd) => {
      this.syncs++
      if (this.failSync !== undefined) throw this.failSync
      await services.sync(fd)
      this.synced++
    },
    commit: async (batch) => {
      this.batches.push(batch)
      if (this.holding) await new Promise<void>((resolve) => this.#waiting.push(resolve))
      if (this.failCommit !== undefined) throw this.failCommit
      await services.commit(batch)
    },
  })

  /** Lets the oldest commit through. */
  next(): void {
    this.#waiting.shift()?.()
  }

  commits(count: number): Promise<void> {
    return this.until(() => this.batches.length >= count)
  }

  /** Resolves some turns of the event loop after `condition` came true. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise(setImmediate)
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate)
  }
}

const failure = (work: Promise<unknown>) =>
  work.then(
    () => 'none',
    (error: FileSystemError) => error.errno,
  )

describe('commits of the write cache', () => {
  const table = pattern(10 * BLOCK)
  let held: Held
  let fs: Fixture

  beforeEach(async () => {
    held = new Held()
    fs = await makeFixture(memorySource({ [TABLE]: table, [OTHER]: table, 'data/global/1': table }), {
      intercept: held.over,
    })
  })
  afterEach(() => fs.remove())

  it('make everything durable that was written before a sync of pg_control, on which redo relies after a crash', async () => {
    const file = await fs.open(TABLE)
    await fs.write(file, pattern(BLOCK, 2), 0)
    await fs.engine.fsync(file)
    // Again, where the journal has it already; and a part of a block that has to be fetched first.
    await fs.write(file, pattern(BLOCK, 3), 0)
    const other = await fs.open(OTHER)
    const part = fs.write(other, Buffer.from('part'), 5 * BLOCK + 7)
    const control = await fs.create('data/global/pg_control', pattern(512))
    const before = held.syncs
    await fs.engine.fsync(control)
    expect(held.synced - before).to.equal(3)
    await part
    expect(fs.engine.unsynced).to.equal(false)
    held.failSync = new Error('the disk fails')
    await fs.write(file, pattern(BLOCK, 4), 0)
    expect(await failure(fs.engine.fsync(control))).to.equal('EIO')
  })

  it('run one at a time; changes made meanwhile share the next', async () => {
    held.holding = true
    const files = await Promise.all(['a', 'b', 'c'].map((name) => fs.create(`data/${name}`, pattern(BLOCK))))
    const first = fs.engine.fsync(files[0] ?? 0)
    await held.commits(1)
    const others = files.slice(1).map((file) => fs.engine.fsync(file))
    await held.until(() => held.synced === 3)
    expect(held.batches).to.have.length(1)
    held.next()
    await first
    await held.commits(2)
    held.next()
    await Promise.all(others)
    expect(held.batches).to.have.length(2)
    expect(held.batches[1]?.contents.map(({ row }) => row.ino)).to.have.members(files.slice(1))
  })

  it('that failed leave everything pending, and report it to those who waited', async () => {
    const file = await fs.create('data/new', pattern(3 * BLOCK))
    held.failCommit = Object.assign(new Error('no room'), { code: 'ENOSPC' })
    expect(await failure(fs.engine.fsync(file))).to.equal('ENOSPC')
    expect(await failure(fs.engine.fsyncdir(1))).to.equal('ENOSPC')
    expect(fs.engine.unsynced).to.equal(true)
    held.failCommit = undefined
    await fs.engine.fsync(file)
    await fs.crash()
    expect((await fs.readFile('data/new')).equals(pattern(3 * BLOCK))).to.equal(true)
  })

  it('delete local files only when they are durable', async () => {
    const file = await fs.create('data/new', pattern(BLOCK))
    await fs.engine.flush()
    const local = `${fs.cachePath}/files/${file}`
    fs.engine.unlink(...(await fs.at('data/new')))
    held.failCommit = new Error('gone')
    fs.engine.forget(file, 1)
    expect(await failure(fs.engine.flush())).to.equal('EIO')
    expect(existsSync(local)).to.equal(true)
    held.failCommit = undefined
    await fs.engine.flush()
    expect(existsSync(local)).to.equal(false)
  })

  it('keep a file intact that was truncated while a longer version was being committed', async () => {
    const file = await fs.create('data/new', pattern(8 * BLOCK))
    await fs.engine.flush()
    const before = held.batches.length
    const { synced } = held
    held.holding = true
    await fs.engine.setattr(file, { size: BLOCK })
    const cut = fs.engine.fsync(file)
    await held.commits(before + 1)
    await fs.write(file, pattern(6 * BLOCK, 5), BLOCK)
    const grown = fs.engine.fsync(file)
    await held.until(() => held.synced === synced + 1)
    await fs.engine.setattr(file, { size: 0 })
    held.next()
    await cut
    await held.commits(before + 2)
    held.next()
    await grown
    held.holding = false
    await fs.crash()
    const content = await fs.readFile('data/new')
    expect(content.subarray(BLOCK).equals(pattern(6 * BLOCK, 5))).to.equal(true)
  })

  it('are not needed to sync blocks that the journal already records', async () => {
    const file = await fs.create('data/new', pattern(4 * BLOCK))
    await fs.engine.fsync(file)
    const commits = held.batches.length
    const syncs = held.syncs
    await fs.write(file, pattern(BLOCK, 9), BLOCK)
    await fs.engine.fsync(file)
    expect([held.batches.length, held.syncs]).to.deep.equal([commits, syncs + 1])
  })

  it('omit a name that is again as in the backup', async () => {
    const [directory, name] = await fs.at(TABLE)
    fs.engine.rename(directory, name, directory, 'away', 'replace')
    await fs.engine.syncChanged()
    fs.engine.rename(directory, 'away', directory, name, 'replace')
    await fs.engine.syncChanged()
    expect(held.batches.at(-1)?.entries.map(({ ino }) => ino)).to.deep.equal([null, null])
    await fs.crash()
    expect(await fs.names('data/base/1')).to.deep.equal(['1000'])
  })

  it('leave nothing unsynced', async () => {
    await fs.create('data/new', pattern(BLOCK))
    expect(fs.engine.unsynced).to.equal(true)
    await fs.engine.syncChanged()
    expect(fs.engine.unsynced).to.equal(false)
  })

  it('do not hide an earlier loss of data from a later fsync', async () => {
    const file = await fs.create('data/new', pattern(BLOCK))
    held.failSync = Object.assign(new Error('disk'), { code: 'EIO' })
    expect(await failure(fs.engine.syncChanged())).to.equal('EIO')
    held.failSync = undefined
    expect(await failure(fs.engine.fsync(file))).to.equal('EIO')
    expect(await failure(fs.engine.fsync(file))).to.equal('none')
  })
})
