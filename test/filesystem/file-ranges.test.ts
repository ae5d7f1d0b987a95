import { statSync } from 'node:fs'
import { expect } from 'chai'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import type { Ino } from '../../agents/target/filesystem/file-system.ts'
import { errnoOf, type Fixture, makeFixture } from './support/engine-fixture.ts'
import { memorySource, pattern } from './support/memory-source.ts'

const TABLE = 'data/base/1/1000'

describe('ranges of files', () => {
  const table = pattern(10 * BLOCK + 100)
  let fs: Fixture
  let ino: Ino

  beforeEach(async () => {
    fs = await makeFixture(memorySource({ [TABLE]: table }))
    ino = await fs.open(TABLE)
  })
  afterEach(() => fs.remove())

  const fallocate = async (
    file: Ino,
    what: 'allocate' | 'punch-hole' | 'zero-range',
    position: number,
    length: number,
    keepSize = what === 'punch-hole',
  ) => fs.engine.fallocate(file, { what, keepSize }, position, length)

  /** What the table holds when zeros were put into a range of it. */
  function withZeros(from: number, to: number, size = table.length): Buffer {
    const content = Buffer.alloc(size)
    table.copy(content)
    return content.fill(0, from, Math.min(to, size))
  }

  it('extends a file with zeros when space is allocated beyond its end', async () => {
    await fallocate(ino, 'allocate', 10 * BLOCK, 5 * BLOCK)
    const content = await fs.readFile(TABLE)
    expect(content.equals(withZeros(table.length, 15 * BLOCK, 15 * BLOCK))).to.equal(true)
    expect(fs.engine.getattr(ino).allocated).to.equal(15 * BLOCK)
  })

  it('allocates space that writes can use when the quota is used up', async () => {
    await fs.remove()
    const limits = { quotaBytes: 7 * BLOCK, reserveBytes: 0 }
    fs = await makeFixture(memorySource({ [TABLE]: table }), { limits })
    const file = await fs.create('data/new')
    await fallocate(file, 'allocate', 0, 7 * BLOCK)
    expect(await errnoOf(() => fallocate(file, 'allocate', 7 * BLOCK, BLOCK))).to.equal('ENOSPC')
    expect((await fs.stat('data/new')).size).to.equal(7 * BLOCK)
    await fs.write(file, pattern(7 * BLOCK, 3), 0)
    expect((await fs.readFile('data/new')).equals(pattern(7 * BLOCK, 3))).to.equal(true)
  })

  it('keeps the size with FALLOC_FL_KEEP_SIZE, and the allocated space until the next mount', async () => {
    const file = await fs.create('data/new', Buffer.from('abc'))
    await fallocate(file, 'allocate', 0, 4 * BLOCK, true)
    expect(await fs.stat('data/new')).to.include({ size: 3, allocated: 4 * BLOCK })
    await fs.engine.setattr(file, { size: 2 })
    await fallocate(file, 'allocate', 0, 4 * BLOCK, true)
    await fs.remount()
    expect(await fs.stat('data/new')).to.include({ size: 2, allocated: BLOCK })
    expect(fs.engine.statistics().changedBytes).to.equal(BLOCK)
    await fs.engine.setattr(await fs.ino('data/new'), { size: 3 * BLOCK })
    const content = await fs.readFile('data/new')
    expect(content.subarray(0, 2).toString()).to.equal('ab')
    expect(content.subarray(2).every((byte) => byte === 0)).to.equal(true)
  })

  it('reads as zeros where writes into space allocated beyond the end were undone by a crash', async () => {
    const file = await fs.create('data/new', Buffer.from('abc'))
    await fallocate(file, 'allocate', 0, 4 * BLOCK, true)
    await fs.engine.fsync(file)
    await fs.write(file, pattern(2 * BLOCK, 3), 2 * BLOCK)
    await fs.crash()
    const again = await fs.ino('data/new')
    expect(fs.engine.getattr(again).size).to.equal(3)
    await fs.engine.setattr(again, { size: 4 * BLOCK })
    expect((await fs.readFile('data/new')).subarray(3).every((byte) => byte === 0)).to.equal(true)
  })

  it('keeps synced allocations after a crash', async () => {
    const file = await fs.create('data/new')
    await fallocate(file, 'allocate', 0, 3 * BLOCK + 5)
    await fs.engine.fsync(file)
    await fs.crash()
    expect((await fs.readFile('data/new')).equals(Buffer.alloc(3 * BLOCK + 5))).to.equal(true)
  })

  it('punches a hole between blocks of the backup', async () => {
    await fallocate(ino, 'punch-hole', 2 * BLOCK + 7, 3 * BLOCK)
    expect((await fs.readFile(TABLE)).equals(withZeros(2 * BLOCK + 7, 5 * BLOCK + 7))).to.equal(true)
    await fs.remount()
    expect((await fs.readFile(TABLE)).equals(withZeros(2 * BLOCK + 7, 5 * BLOCK + 7))).to.equal(true)
  })

  it('punches a hole up to the end of the backup, which uses no space', async () => {
    await fallocate(ino, 'punch-hole', 4 * BLOCK, 100 * BLOCK)
    expect((await fs.readFile(TABLE)).equals(withZeros(4 * BLOCK, table.length))).to.equal(true)
    expect(fs.engine.getattr(ino)).to.include({ size: table.length, allocated: 4 * BLOCK })
    expect(fs.engine.statistics().changedBytes).to.equal(0)
    await fs.engine.fsync(ino)
    await fs.crash()
    expect((await fs.readFile(TABLE)).equals(withZeros(4 * BLOCK, table.length))).to.equal(true)
  })

  it('frees the space of a hole', async () => {
    const file = await fs.create('data/new', pattern(8 * BLOCK, 3))
    await fallocate(file, 'punch-hole', BLOCK + 1, 5 * BLOCK)
    const expected = pattern(8 * BLOCK, 3).fill(0, BLOCK + 1, 6 * BLOCK + 1)
    expect((await fs.readFile('data/new')).equals(expected)).to.equal(true)
    expect(fs.engine.statistics().changedBytes).to.equal(4 * BLOCK)
    await fs.write(file, Buffer.from('x'), 3 * BLOCK + 5)
    expected.write('x', 3 * BLOCK + 5)
    expect((await fs.readFile('data/new')).equals(expected)).to.equal(true)
    await fs.remount()
    expect((await fs.readFile('data/new')).equals(expected)).to.equal(true)
  })

  it('frees space that was allocated beyond the end', async () => {
    const file = await fs.create('data/new', Buffer.from('abc'))
    await fallocate(file, 'allocate', 0, 4 * BLOCK, true)
    await fallocate(file, 'punch-hole', 3, 4 * BLOCK)
    expect(await fs.stat('data/new')).to.include({ size: 3, allocated: BLOCK })
  })

  it('zeroes a range, beyond the end of the file when it may grow', async () => {
    await fallocate(ino, 'zero-range', BLOCK + 3, 2 * BLOCK)
    expect((await fs.readFile(TABLE)).equals(withZeros(BLOCK + 3, 3 * BLOCK + 3))).to.equal(true)
    await fallocate(ino, 'zero-range', BLOCK + 3, 19 * BLOCK, true)
    expect((await fs.readFile(TABLE)).equals(withZeros(BLOCK + 3, table.length))).to.equal(true)
    await fallocate(ino, 'zero-range', BLOCK + 3, 19 * BLOCK)
    const grown = await fs.readFile(TABLE)
    expect(grown.equals(withZeros(BLOCK + 3, 20 * BLOCK + 3, 20 * BLOCK + 3))).to.equal(true)
  })

  it('allocates a hundred megabytes while other requests are served', async function () {
    this.timeout(30_000)
    const file = await fs.create('data/new')
    const made = fallocate(file, 'allocate', 0, 100 * 1024 * 1024)
    expect((await fs.stat('data/new')).size).to.equal(0)
    expect((await fs.read(ino, BLOCK, 0)).equals(table.subarray(0, BLOCK))).to.equal(true)
    await made
    expect(await fs.stat('data/new')).to.include({ size: 100 * 1024 * 1024, allocated: 100 * 1024 * 1024 })
    expect(statSync(`${fs.cachePath}/files/${file}`).blocks * 512).to.be.at.least(100 * 1024 * 1024)
  })

  it('finds data and holes as lseek(2) does', async () => {
    const file = await fs.create('data/new')
    await fs.write(file, pattern(BLOCK), 2 * BLOCK)
    await fs.write(file, pattern(BLOCK), 30_000 * BLOCK)
    await fs.engine.setattr(file, { size: 40_000 * BLOCK })
    const data = (position: number) => fs.engine.seek(file, position, 'data')
    const hole = (position: number) => fs.engine.seek(file, position, 'hole')
    expect([data(0), data(2 * BLOCK + 9), data(3 * BLOCK)]).to.deep.equal([
      2 * BLOCK,
      2 * BLOCK + 9,
      30_000 * BLOCK,
    ])
    expect([hole(0), hole(2 * BLOCK + 9), hole(30_000 * BLOCK)]).to.deep.equal([0, 3 * BLOCK, 30_001 * BLOCK])
    expect(await errnoOf(() => data(30_001 * BLOCK))).to.equal('ENXIO')
    expect(await errnoOf(() => data(40_000 * BLOCK))).to.equal('ENXIO')
    expect(await errnoOf(() => hole(40_000 * BLOCK))).to.equal('ENXIO')
    expect(await errnoOf(() => data(-1))).to.equal('ENXIO')
  })

  it('reports blocks of the backup as data', async () => {
    await fs.engine.setattr(ino, { size: 20 * BLOCK })
    expect(fs.engine.seek(ino, 5, 'data')).to.equal(5)
    expect(fs.engine.seek(ino, 5, 'hole')).to.equal(11 * BLOCK)
    await fs.write(ino, pattern(BLOCK), 11 * BLOCK)
    expect(fs.engine.seek(ino, 5, 'hole')).to.equal(12 * BLOCK)
  })

  it('truncates a very large sparse file quickly', async () => {
    const file = await fs.create('data/new')
    await fs.write(file, Buffer.from('far'), 2 ** 42)
    await fs.engine.setattr(file, { size: 10 })
    expect(fs.engine.statistics().changedBytes).to.equal(0)
  })

  it('refuses invalid ranges', async () => {
    expect(await errnoOf(() => fallocate(ino, 'allocate', 0, 0))).to.equal('EINVAL')
    expect(await errnoOf(() => fallocate(ino, 'allocate', -1, 10))).to.equal('EINVAL')
    expect(await errnoOf(() => fallocate(ino, 'allocate', 2 ** 53 - 1, 10))).to.equal('EFBIG')
  })
})
