import { existsSync, readdirSync } from 'node:fs'
import { expect } from 'chai'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import type { FileSystemError } from '../../agents/target/filesystem/file-system.ts'
import { CALLER, type Fixture, makeFixture } from './support/engine-fixture.ts'
import { type MemorySource, memorySource, pattern } from './support/memory-source.ts'

const TABLE = 'data/base/1/1000'

describe('the write cache', () => {
  const table = pattern(40 * BLOCK + 100)
  let source: MemorySource
  let fs: Fixture

  beforeEach(async () => {
    source = memorySource({ [TABLE]: table, 'data/PG_VERSION': Buffer.from('15\n') })
    fs = await makeFixture(source)
  })
  afterEach(() => fs.remove())

  it('keeps everything across a clean remount', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(BLOCK + 33, 4), 3 * BLOCK + 5)
    await fs.create('data/new', pattern(3 * BLOCK, 6))
    fs.engine.mkdir(await fs.ino('data'), 'sub', 0o750, CALLER)
    fs.engine.symlink(await fs.ino('data/sub'), 'link', 'target', CALLER)
    fs.engine.unlink(...(await fs.at('data/PG_VERSION')))
    fs.engine.rename(...(await fs.at(TABLE)), ...(await fs.at('data/sub/moved')), 'replace')
    const before = await fs.readFile('data/sub/moved')
    await fs.remount()
    expect((await fs.readFile('data/sub/moved')).equals(before)).to.equal(true)
    expect((await fs.readFile('data/new')).equals(pattern(3 * BLOCK, 6))).to.equal(true)
    expect(fs.engine.readlink(await fs.ino('data/sub/link'))).to.equal('target')
    expect((await fs.stat('data/sub')).mode).to.equal(0o040750)
    expect([await fs.exists('data/PG_VERSION'), await fs.exists(TABLE)]).to.deep.equal([false, false])
  })

  it('does not fetch blocks again after a remount', async () => {
    await fs.readFile(TABLE)
    await fs.remount()
    const reads = source.reads.length
    expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    expect(source.reads).to.have.length(reads)
  })

  it('keeps synced changes after a crash', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(2 * BLOCK, 8), 2 * BLOCK)
    const made = await fs.create('data/new', pattern(BLOCK + 1, 6))
    await fs.engine.fsync(handle)
    await fs.engine.fsync(made)
    await fs.crash()
    const expected = Buffer.from(table)
    pattern(2 * BLOCK, 8).copy(expected, 2 * BLOCK)
    expect((await fs.readFile(TABLE)).equals(expected)).to.equal(true)
    expect((await fs.readFile('data/new')).equals(pattern(BLOCK + 1, 6))).to.equal(true)
  })

  it('has after a crash the old or the new content of each block that was not synced', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(4 * BLOCK, 8), 0)
    await fs.engine.fsync(handle)
    await fs.write(handle, pattern(2 * BLOCK, 9), 3 * BLOCK)
    await fs.write(handle, pattern(BLOCK, 9), 10 * BLOCK)
    await fs.crash()
    const content = await fs.readFile(TABLE)
    const block = (buffer: Buffer, index: number) => buffer.subarray(index * BLOCK, (index + 1) * BLOCK)
    expect(content).to.have.length(table.length)
    expect(block(content, 1).equals(block(pattern(4 * BLOCK, 8), 1))).to.equal(true)
    expect(block(content, 3).equals(block(pattern(2 * BLOCK, 9), 0))).to.equal(true)
    expect(block(content, 4).equals(block(table, 4))).to.equal(true)
    expect(block(content, 10).equals(block(table, 10))).to.equal(true)
  })

  it('restores a truncated file after a crash when the truncation was not synced', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(4 * BLOCK, 8), 0)
    await fs.engine.fsync(handle)
    await fs.engine.setattr(await fs.ino(TABLE), { size: 10 })
    await fs.crash()
    const content = await fs.readFile(TABLE)
    expect(content).to.have.length(table.length)
    expect(content.subarray(0, 4 * BLOCK).equals(pattern(4 * BLOCK, 8))).to.equal(true)
  })

  it('never shows old blocks after a synced truncation, a crash and an extension', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(4 * BLOCK, 8), 0)
    await fs.engine.fsync(handle)
    await fs.engine.setattr(await fs.ino(TABLE), { size: 10 })
    await fs.engine.fsync(handle)
    await fs.crash()
    await fs.engine.setattr(await fs.ino(TABLE), { size: 4 * BLOCK })
    const content = await fs.readFile(TABLE)
    expect(content.subarray(0, 10).equals(pattern(10, 8))).to.equal(true)
    expect(content.subarray(10).every((byte) => byte === 0)).to.equal(true)
  })

  it('has no file after a crash whose creation was not synced, and reuses nothing of it', async () => {
    await fs.create('data/lost', pattern(BLOCK, 3))
    await fs.crash()
    expect(await fs.exists('data/lost')).to.equal(false)
    const handle = await fs.create('data/other')
    await fs.write(handle, Buffer.from('x'), BLOCK - 1)
    expect((await fs.readFile('data/other')).subarray(0, BLOCK - 1).every((byte) => byte === 0)).to.equal(
      true,
    )
  })

  it('makes a rename durable with fsync of the directory', async () => {
    const handle = await fs.create('data/draft', Buffer.from('16\n'))
    await fs.engine.fsync(handle)
    fs.engine.rename(...(await fs.at('data/draft')), ...(await fs.at('data/PG_VERSION')), 'replace')
    await fs.engine.fsyncdir(await fs.ino('data'))
    await fs.crash()
    expect((await fs.readFile('data/PG_VERSION')).toString()).to.equal('16\n')
    expect(await fs.exists('data/draft')).to.equal(false)
  })

  it('makes names and contents durable by itself after a while', async () => {
    await fs.remove()
    fs = await makeFixture(source, { intervals: { changed: 5, all: 5 } })
    await fs.create('data/new', pattern(BLOCK, 2))
    await fs.readFile(TABLE)
    const durable = async () => {
      await fs.crash()
      const reads = source.reads.length
      return (
        (await fs.exists('data/new')) &&
        (await fs.readFile('data/new')).equals(pattern(BLOCK, 2)) &&
        (await fs.readFile(TABLE)).equals(table) &&
        source.reads.length === reads
      )
    }
    let tries = 0
    do {
      await new Promise((resolve) => setTimeout(resolve, 50))
      tries++
      if (!(await fs.exists('data/new'))) await fs.create('data/new', pattern(BLOCK, 2))
    } while (!(await durable()) && tries < 50)
    expect(tries).to.be.lessThan(50)
  })

  it('deletes the local files of unlinked files', async () => {
    const handle = await fs.create('data/new', pattern(BLOCK, 2))
    await fs.engine.fsync(handle)
    fs.engine.unlink(...(await fs.at('data/new')))
    fs.engine.forget(handle, 1)
    await fs.remount()
    expect(readdirSync(`${fs.cachePath}/files`)).to.deep.equal([])
  })

  it('removes after a crash a file that was unlinked while open', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(BLOCK, 2), 0)
    fs.engine.unlink(...(await fs.at(TABLE)))
    await fs.engine.fsync(handle)
    await fs.crash()
    expect(await fs.exists(TABLE)).to.equal(false)
    await fs.remount()
    expect(readdirSync(`${fs.cachePath}/files`)).to.deep.equal([])
    expect(fs.engine.statistics().changedBytes).to.equal(0)
  })

  it('reports ENOSPC at the quota, can still read, and writes again when space is freed', async () => {
    await fs.remove()
    fs = await makeFixture(source, { limits: { quotaBytes: 4 * BLOCK, reserveBytes: 0 } })
    const handle = await fs.create('data/new', pattern(4 * BLOCK, 2))
    let errno = ''
    try {
      await fs.write(handle, pattern(BLOCK), 4 * BLOCK)
    } catch (error) {
      errno = (error as FileSystemError).errno
    }
    expect(errno).to.equal('ENOSPC')
    expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    expect((await fs.readFile('data/new')).equals(pattern(4 * BLOCK, 2))).to.equal(true)
    expect(fs.engine.statfs().availableBlocks).to.equal(0)
    await fs.engine.setattr(await fs.ino('data/new'), { size: BLOCK })
    await fs.write(handle, pattern(BLOCK, 5), 4 * BLOCK)
    expect((await fs.readFile('data/new')).subarray(4 * BLOCK).equals(pattern(BLOCK, 5))).to.equal(true)
  })

  it('reads without keeping when the reserve is reached', async () => {
    await fs.remove()
    fs = await makeFixture(source, { limits: { reserveBytes: 1e15 } })
    expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    expect(existsSync(`${fs.cachePath}/files`) && readdirSync(`${fs.cachePath}/files`)).to.deep.equal([])
  })

  it('is refused to a second engine', async () => {
    let refused = false
    try {
      const other = await makeFixture(source, { cachePath: fs.cachePath })
      await other.remove()
    } catch {
      refused = true
    }
    expect(refused).to.equal(true)
  })
})

describe('the read path', () => {
  const big = pattern(512 * BLOCK)
  let source: MemorySource
  let fs: Fixture

  beforeEach(async () => {
    source = memorySource({ [TABLE]: big })
    fs = await makeFixture(source, { deadlineMs: 200 })
  })
  afterEach(() => fs.remove())

  it('requests a block once for many readers', async () => {
    const handle = await fs.open(TABLE)
    const reads = await Promise.all(Array.from({ length: 8 }, () => fs.read(handle, BLOCK, 100 * BLOCK)))
    expect(reads.every((read) => read.equals(big.subarray(100 * BLOCK, 101 * BLOCK)))).to.equal(true)
    expect(source.reads).to.have.length(1)
  })

  it('fetches little for random reads', async () => {
    const handle = await fs.open(TABLE)
    for (const block of [300, 20, 450, 120, 222]) await fs.read(handle, BLOCK, block * BLOCK)
    expect(source.reads.map(({ length }) => length)).to.deep.equal([BLOCK, BLOCK, BLOCK, BLOCK, BLOCK])
  })

  it('reads ahead in growing steps, up to a megabyte, when a file is scanned', async () => {
    const handle = await fs.open(TABLE)
    for (let block = 0; block < 512; block++) {
      const read = await fs.read(handle, BLOCK, block * BLOCK)
      expect(read.equals(big.subarray(block * BLOCK, (block + 1) * BLOCK))).to.equal(true)
    }
    expect(source.reads.length).to.be.lessThan(30)
    expect(Math.max(...source.reads.map(({ length }) => length))).to.be.within(512 * 1024, 1024 * 1024)
    const bytes = source.reads.reduce((sum, { length }) => sum + length, 0)
    expect(bytes).to.equal(big.length)
  })

  it('answers a source error with EIO and tries again the next time', async () => {
    const handle = await fs.open(TABLE)
    source.failing = true
    const errno = await fs.read(handle, BLOCK, 0).then(
      () => 'none',
      (error: FileSystemError) => error.errno,
    )
    expect(errno).to.equal('EIO')
    expect(fs.engine.statistics().lastError).to.contain(TABLE)
    source.failing = false
    expect((await fs.read(handle, BLOCK, 0)).equals(big.subarray(0, BLOCK))).to.equal(true)
  })

  it('waits for the source no longer than the deadline', async () => {
    source.gate = new Promise(() => {})
    const handle = await fs.open(TABLE)
    const errno = await fs.read(handle, BLOCK, 0).then(
      () => 'none',
      (error: FileSystemError) => error.errno,
    )
    expect(errno).to.equal('EIO')
  })

  it('does not overwrite a newer write, or the hole behind a truncation, with a block that arrives late', async () => {
    let open = () => {}
    source.gate = new Promise((resolve) => {
      open = resolve
    })
    const handle = await fs.open(TABLE)
    const late = fs.read(handle, 4 * BLOCK, 0)
    await fs.write(handle, pattern(BLOCK, 77), BLOCK)
    await fs.engine.setattr(await fs.ino(TABLE), { size: 2 * BLOCK })
    await fs.engine.setattr(await fs.ino(TABLE), { size: 4 * BLOCK })
    open()
    const expected = Buffer.concat([big.subarray(0, BLOCK), pattern(BLOCK, 77), Buffer.alloc(2 * BLOCK)])
    expect((await late).equals(expected)).to.equal(true)
    expect((await fs.readFile(TABLE)).equals(expected)).to.equal(true)
  })
})
