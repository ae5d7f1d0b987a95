import { expect } from 'chai'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import { CALLER, errnoOf, type Fixture, makeFixture, OWNER } from './support/engine-fixture.ts'
import { type MemorySource, memorySource, pattern } from './support/memory-source.ts'

const TABLE = 'data/base/1/1000'

describe('the engine, POSIX', () => {
  const table = pattern(5 * BLOCK + 100)
  let source: MemorySource
  let fs: Fixture

  beforeEach(async () => {
    source = memorySource({
      [TABLE]: table,
      'data/PG_VERSION': Buffer.from('15\n'),
      'data/global/1': pattern(9),
    })
    fs = await makeFixture(source)
  })
  afterEach(() => fs.remove())

  it('shows the files of the backup with their attributes and the owner', async () => {
    expect(await fs.stat(TABLE)).to.include({
      mode: 0o100600,
      size: table.length,
      mtime: 1_000_500_000_000n,
      ...OWNER,
      nlink: 1,
    })
    expect((await fs.stat('data')).mode).to.equal(0o040700)
    expect(await fs.names('')).to.deep.equal(['data', 'tblspc', 'wal'])
  })

  it('reads what the backup has, to the end and not beyond', async () => {
    expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    const handle = await fs.open(TABLE)
    expect(await fs.read(handle, 100, table.length)).to.have.length(0)
    expect(await fs.read(handle, 200, table.length - 50)).to.have.length(50)
  })

  it('answers synchronously from local blocks', async () => {
    const handle = await fs.open(TABLE)
    await fs.read(handle, BLOCK, 0)
    // Readers are answered before the blocks are kept.
    await new Promise(setImmediate)
    expect(fs.engine.read(handle, Buffer.alloc(BLOCK), BLOCK, 0)).to.equal(BLOCK)
  })

  it('overwrites part of a block and leaves the rest as the backup has it', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, Buffer.from('howdah'), BLOCK + 5)
    const expected = Buffer.from(table)
    expected.write('howdah', BLOCK + 5)
    expect((await fs.readFile(TABLE)).equals(expected)).to.equal(true)
  })

  it('overwrites whole blocks without reading the repository', async () => {
    const handle = await fs.open(TABLE)
    expect(fs.engine.write(handle, pattern(2 * BLOCK, 9), 2 * BLOCK, BLOCK)).to.equal(2 * BLOCK)
    expect(source.reads).to.have.length(0)
  })

  it('writes over the end of the backup without reading what it replaces', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(BLOCK - 7, 3), 5 * BLOCK)
    expect(source.reads).to.have.length(0)
    expect((await fs.stat(TABLE)).size).to.equal(6 * BLOCK - 7)
  })

  it('reads zeros where a file was extended', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, Buffer.from('x'), 9 * BLOCK + 1)
    const content = await fs.readFile(TABLE)
    expect(content.subarray(0, table.length).equals(table)).to.equal(true)
    expect(content.subarray(table.length, 9 * BLOCK + 1).every((byte) => byte === 0)).to.equal(true)
  })

  it('never shows the backup again behind a truncation', async () => {
    const ino = await fs.ino(TABLE)
    await fs.engine.setattr(ino, { size: BLOCK + 10 })
    await fs.engine.setattr(ino, { size: 4 * BLOCK })
    const content = await fs.readFile(TABLE)
    expect(content.subarray(0, BLOCK + 10).equals(table.subarray(0, BLOCK + 10))).to.equal(true)
    expect(content.subarray(BLOCK + 10).every((byte) => byte === 0)).to.equal(true)
  })

  it('never shows its own old blocks again behind a truncation', async () => {
    const handle = await fs.open(TABLE)
    await fs.write(handle, pattern(4 * BLOCK, 7), 0)
    await fs.engine.fsync(handle)
    const ino = await fs.ino(TABLE)
    await fs.engine.setattr(ino, { size: 100 })
    await fs.write(handle, Buffer.from('end'), 3 * BLOCK)
    const content = await fs.readFile(TABLE)
    expect(content.subarray(0, 100).equals(pattern(100, 7))).to.equal(true)
    expect(content.subarray(100, 3 * BLOCK).every((byte) => byte === 0)).to.equal(true)
    expect(content.subarray(3 * BLOCK).toString()).to.equal('end')
  })

  it('refuses to make a name that exists', async () => {
    const [directory, name] = await fs.at(TABLE)
    expect(await errnoOf(() => fs.engine.mknod(directory, name, 0o600, 0, CALLER))).to.equal('EEXIST')
  })

  it('makes new files belong to the caller', async () => {
    await fs.create('data/new', Buffer.from('abc'))
    expect(await fs.stat('data/new')).to.include({ ...CALLER, size: 3, mode: 0o100600, nlink: 1 })
    expect((await fs.readFile('data/new')).toString()).to.equal('abc')
  })

  it('keeps an unlinked file while it is open', async () => {
    const handle = await fs.open(TABLE)
    fs.engine.unlink(...(await fs.at(TABLE)))
    expect(await fs.exists(TABLE)).to.equal(false)
    expect((await fs.read(handle, BLOCK, BLOCK)).equals(table.subarray(BLOCK, 2 * BLOCK))).to.equal(true)
    await fs.write(handle, Buffer.from('still'), 0)
    expect((await fs.read(handle, 5, 0)).toString()).to.equal('still')
    fs.engine.forget(handle, 1)
  })

  it('makes a name free again after unlink', async () => {
    fs.engine.unlink(...(await fs.at(TABLE)))
    await fs.create(TABLE, Buffer.from('new'))
    expect((await fs.readFile(TABLE)).toString()).to.equal('new')
  })

  it('renames over an open file, which stays readable', async () => {
    const old = await fs.open('data/PG_VERSION')
    await fs.create('data/draft', Buffer.from('16\n'))
    fs.engine.rename(...(await fs.at('data/draft')), ...(await fs.at('data/PG_VERSION')), 'replace')
    expect((await fs.readFile('data/PG_VERSION')).toString()).to.equal('16\n')
    expect((await fs.read(old, 10, 0)).toString()).to.equal('15\n')
    expect(await fs.exists('data/draft')).to.equal(false)
  })

  it('renames a directory of the backup with what is in it', async () => {
    fs.engine.rename(...(await fs.at('data/base/1')), ...(await fs.at('data/base/2')), 'replace')
    expect((await fs.readFile('data/base/2/1000')).equals(table)).to.equal(true)
    expect(await fs.exists('data/base/1')).to.equal(false)
  })

  it('holds the rules of rename for directories', async () => {
    const base = await fs.ino('data/base')
    const data = await fs.ino('data')
    const one = await fs.ino('data/base/1')
    fs.engine.mkdir(data, 'empty', 0o700, CALLER)
    const refused = [
      await errnoOf(() => fs.engine.rename(data, 'base', one, 'inside', 'replace')),
      await errnoOf(() => fs.engine.rename(data, 'empty', data, 'base', 'replace')),
      await errnoOf(() => fs.engine.rename(data, 'PG_VERSION', data, 'base', 'replace')),
      await errnoOf(() => fs.engine.rename(base, '1', data, 'PG_VERSION', 'replace')),
      await errnoOf(() => fs.engine.rename(data, 'missing', data, 'x', 'replace')),
    ]
    expect(refused).to.deep.equal(['EINVAL', 'ENOTEMPTY', 'EISDIR', 'ENOTDIR', 'ENOENT'])
    fs.engine.rename(base, '1', data, 'empty', 'replace')
    expect(await fs.names('data/empty')).to.deep.equal(['1000'])
  })

  it('counts links of files and directories', async () => {
    const data = await fs.ino('data')
    const before = (await fs.stat('data')).nlink
    fs.engine.mkdir(data, 'sub', 0o755, CALLER)
    fs.engine.link(await fs.ino(TABLE), data, 'second')
    expect((await fs.stat('data')).nlink).to.equal(before + 1)
    expect((await fs.stat(TABLE)).nlink).to.equal(2)
    fs.engine.unlink(...(await fs.at(TABLE)))
    expect((await fs.readFile('data/second')).equals(table)).to.equal(true)
    fs.engine.rmdir(data, 'sub')
    expect((await fs.stat('data')).nlink).to.equal(before)
  })

  it('refuses to remove a directory that is not empty, and unlink of one', async () => {
    const data = await fs.ino('data')
    expect(await errnoOf(() => fs.engine.rmdir(data, 'base'))).to.equal('ENOTEMPTY')
    expect(await errnoOf(() => fs.engine.unlink(data, 'base'))).to.equal('EISDIR')
    expect(await errnoOf(() => fs.engine.rmdir(data, 'PG_VERSION'))).to.equal('ENOTDIR')
  })

  it('makes and reads symbolic links', async () => {
    const data = await fs.ino('data')
    fs.engine.symlink(data, 'link', '../tblspc', CALLER)
    expect(fs.engine.readlink(await fs.ino('data/link'))).to.equal('../tblspc')
    expect(fs.engine.readlink(await fs.ino('data/pg_wal'))).to.equal(`${fs.cachePath}/pg_wal`)
    expect(await fs.stat('data/link')).to.include({ mode: 0o120777, size: 9 })
  })

  it('changes mode, owner and times', async () => {
    const ino = await fs.ino(TABLE)
    await fs.engine.setattr(ino, { mode: 0o640, uid: 7, gid: 8, atime: 11_000_000_005n, mtime: 22n })
    expect(await fs.stat(TABLE)).to.include({
      mode: 0o100640,
      uid: 7,
      gid: 8,
      atime: 11_000_000_005n,
      mtime: 22n,
    })
  })

  it('does not change the times when a caching kernel writes back', async () => {
    const file = await fs.create('data/new', pattern(10))
    await fs.engine.setattr(file, { mtime: 22n, ctime: 33n })
    await fs.engine.write(file, pattern(2 * BLOCK), 2 * BLOCK, 5, true)
    await fs.engine.fsync(file)
    const written = { size: 2 * BLOCK + 5, mtime: 22n, ctime: 33n }
    expect(await fs.stat('data/new')).to.include(written)
    await fs.crash()
    expect(await fs.stat('data/new')).to.include(written)
    await fs.engine.write(await fs.ino('data/new'), pattern(1), 1, 0, false)
    expect((await fs.stat('data/new')).mtime > 33n).to.equal(true)
  })

  it('refuses names that are too long', async () => {
    expect(await errnoOf(() => fs.create(`data/${'x'.repeat(256)}`))).to.equal('ENAMETOOLONG')
  })

  it('serves wal/ from the archive, read-only, and asks for nothing but WAL names', async () => {
    await fs.remove()
    const segment = pattern(3 * 1024 * 1024 + 17, 5)
    fs = await makeFixture(memorySource({}, { '000000010000000000000007': segment, secret: segment }))
    expect((await fs.readFile('wal/000000010000000000000007')).equals(segment)).to.equal(true)
    expect(await fs.exists('wal/000000010000000000000008')).to.equal(false)
    expect(await fs.exists('wal/secret')).to.equal(false)
    const wal = await fs.ino('wal')
    expect(await errnoOf(() => fs.engine.mkdir(wal, 'x', 0o700, CALLER))).to.equal('EROFS')
    const file = await fs.ino('wal/000000010000000000000007')
    expect(await errnoOf(() => fs.engine.write(file, segment, 1, 0))).to.equal('EROFS')
    expect(fs.engine.statistics().changedBytes).to.equal(0)
  })

  it('lists a directory of 100,000 files, some removed and some added', async function () {
    this.timeout(60_000)
    await fs.remove()
    const files = Object.fromEntries(
      Array.from({ length: 100_000 }, (_, index) => [`data/base/1/${index}`, Buffer.alloc(0)]),
    )
    fs = await makeFixture(memorySource(files))
    const directory = await fs.ino('data/base/1')
    fs.engine.unlink(directory, '77')
    await fs.create('data/base/1/added')
    const names = new Set(await fs.names('data/base/1'))
    expect(names.size).to.equal(100_000)
    expect([names.has('77'), names.has('added'), names.has('99999')]).to.deep.equal([false, true, true])
  })
})
