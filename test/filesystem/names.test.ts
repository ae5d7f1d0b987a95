import { expect } from 'chai'
import { CALLER, errnoOf, type Fixture, makeFixture, OWNER } from './support/engine-fixture.ts'
import { memorySource, pattern } from './support/memory-source.ts'

const TABLE = 'data/base/1/1000'

describe('names in the mounted file system', () => {
  let fs: Fixture

  beforeEach(async () => {
    fs = await makeFixture(memorySource({ [TABLE]: pattern(9000), 'data/PG_VERSION': Buffer.from('15\n') }))
  })
  afterEach(() => fs.remove())

  it('makes new files belong to their creator, and those of the backup to the owner', async () => {
    const data = await fs.ino('data')
    fs.engine.mkdir(data, 'sub', 0o755, CALLER)
    fs.engine.symlink(data, 'link', 'PG_VERSION', CALLER)
    expect(await fs.stat('data/sub')).to.include(CALLER)
    expect(await fs.stat('data/link')).to.include(CALLER)
    expect(await fs.stat('data/PG_VERSION')).to.include(OWNER)
  })

  it('inherits the group of a directory with the set-group-ID bit, and in directories the bit, too', async () => {
    const data = await fs.ino('data')
    const shared = fs.engine.mkdir(data, 'shared', 0o2775, { uid: 1, gid: 555 }).ino
    const inside = fs.engine.mkdir(shared, 'inside', 0o755, CALLER)
    expect(inside).to.include({ uid: CALLER.uid, gid: 555, mode: 0o042755 })
    const file = fs.engine.mknod(shared, 'file', 0o100644, 0, CALLER)
    expect(file).to.include({ uid: CALLER.uid, gid: 555, mode: 0o100644 })
  })

  it('makes fifos, sockets and devices, and keeps them', async () => {
    const data = await fs.ino('data')
    fs.engine.mknod(data, 'fifo', 0o010600, 0, CALLER)
    fs.engine.mknod(data, 'socket', 0o140600, 0, CALLER)
    fs.engine.mknod(data, 'null', 0o020666, 0x103, CALLER)
    await fs.remount()
    expect((await fs.stat('data/fifo')).mode).to.equal(0o010600)
    expect((await fs.stat('data/socket')).mode).to.equal(0o140600)
    expect(await fs.stat('data/null')).to.include({ mode: 0o020666, rdev: 0x103 })
  })

  it('keeps times to the nanosecond', async () => {
    const times = { atime: 1_700_000_000_123_456_789n, mtime: -1n }
    await fs.engine.setattr(await fs.ino(TABLE), times)
    await fs.remount()
    expect(await fs.stat(TABLE)).to.include(times)
  })

  it('takes the time of change from a kernel that keeps times itself, else from the clock', async () => {
    const ino = await fs.ino(TABLE)
    await fs.engine.setattr(ino, { mtime: 5n, ctime: 7n })
    expect(await fs.stat(TABLE)).to.include({ mtime: 5n, ctime: 7n })
    const before = BigInt(Date.now()) * 1_000_000n
    await fs.engine.setattr(ino, { mode: 0o600 })
    expect((await fs.stat(TABLE)).ctime >= before).to.equal(true)
  })

  it('refuses to replace with noreplace', async () => {
    const data = await fs.ino('data')
    await fs.create('data/new')
    const rename = (to: string) => fs.engine.rename(data, 'new', data, to, 'noreplace')
    expect(await errnoOf(() => rename('PG_VERSION'))).to.equal('EEXIST')
    expect(await errnoOf(() => rename('new'))).to.equal('EEXIST')
    rename('newer')
    expect(await fs.exists('data/newer')).to.equal(true)
  })

  it('exchanges a file and a directory of different directories, with their link counts', async () => {
    const data = await fs.ino('data')
    const base = await fs.ino('data/base')
    const links = async () => [(await fs.stat('data')).nlink, (await fs.stat('data/base')).nlink]
    const before = await links()
    fs.engine.rename(data, 'PG_VERSION', base, '1', 'exchange')
    expect(await links()).to.deep.equal([(before[0] ?? 0) + 1, (before[1] ?? 0) - 1])
    expect((await fs.readFile('data/base/1')).toString()).to.equal('15\n')
    expect(await fs.names('data/PG_VERSION')).to.deep.equal(['1000'])
    expect(fs.engine.parent(await fs.ino('data/PG_VERSION'))).to.equal(data)
    await fs.remount()
    expect(await fs.names('data/PG_VERSION')).to.deep.equal(['1000'])
    expect(fs.engine.parent(await fs.ino('data/PG_VERSION'))).to.equal(data)
  })

  it('refuses an exchange with nothing, and of a directory with what lies below it', async () => {
    const data = await fs.ino('data')
    const base = await fs.ino('data/base')
    expect(await errnoOf(() => fs.engine.rename(data, 'PG_VERSION', data, 'no', 'exchange'))).to.equal(
      'ENOENT',
    )
    expect(await errnoOf(() => fs.engine.rename(base, '1', data, 'base', 'exchange'))).to.equal('EINVAL')
    expect(await errnoOf(() => fs.engine.rename(data, 'base', base, '1', 'exchange'))).to.equal('EINVAL')
  })

  it('counts subdirectories over renames, of which some replace', async () => {
    const data = await fs.ino('data')
    const one = fs.engine.mkdir(data, 'one', 0o700, CALLER).ino
    const two = fs.engine.mkdir(data, 'two', 0o700, CALLER).ino
    fs.engine.mkdir(one, 'sub', 0o700, CALLER)
    fs.engine.mkdir(two, 'sub', 0o700, CALLER)
    fs.engine.rename(one, 'sub', two, 'sub', 'replace')
    expect([fs.engine.getattr(one).nlink, fs.engine.getattr(two).nlink]).to.deep.equal([2, 3])
    fs.engine.rename(two, 'sub', two, 'other', 'replace')
    expect(fs.engine.getattr(two).nlink).to.equal(3)
    fs.engine.rename(data, 'one', two, 'other', 'replace')
    expect([fs.engine.getattr(two).nlink, fs.engine.getattr(one).nlink]).to.deep.equal([3, 2])
  })

  it('returns the parent of a directory', async () => {
    expect(fs.engine.parent(1)).to.equal(1)
    expect(fs.engine.parent(await fs.ino('data/base/1'))).to.equal(await fs.ino('data/base'))
    const file = await fs.ino(TABLE)
    expect(await errnoOf(() => fs.engine.parent(file))).to.equal('ENOTDIR')
  })

  it('refuses names over 255 bytes wherever a name is given', async () => {
    const data = await fs.ino('data')
    const long = 'ü'.repeat(128)
    const errnos = [
      await errnoOf(() => fs.engine.lookup(data, long)),
      await errnoOf(() => fs.engine.mkdir(data, long, 0o700, CALLER)),
      await errnoOf(() => fs.engine.unlink(data, long)),
      await errnoOf(() => fs.engine.rename(data, 'PG_VERSION', data, long, 'replace')),
    ]
    expect(errnos).to.deep.equal(Array(4).fill('ENAMETOOLONG'))
    fs.engine.mkdir(data, 'ü'.repeat(127), 0o700, CALLER)
  })

  it('refuses targets of symbolic links over 4095 bytes', async () => {
    const data = await fs.ino('data')
    expect(fs.engine.symlink(data, 'long', 'x'.repeat(4095), CALLER).size).to.equal(4095)
    const longer = () => fs.engine.symlink(data, 'longer', 'x'.repeat(4096), CALLER)
    expect(await errnoOf(longer)).to.equal('ENAMETOOLONG')
  })

  it('has a symbolic link whole after a crash once its directory was synced', async () => {
    fs.engine.symlink(await fs.ino('data'), 'link', 'PG_VERSION', CALLER)
    await fs.engine.fsyncdir(await fs.ino('data'))
    await fs.crash()
    expect(await fs.stat('data/link')).to.include({ size: 10 })
    expect(fs.engine.readlink(await fs.ino('data/link'))).to.equal('PG_VERSION')
  })

  it('refuses a link more than ext4 has', async function () {
    this.timeout(20_000)
    const data = await fs.ino('data')
    const ino = await fs.ino(TABLE)
    for (let count = 1; count < 65_000; count++) fs.engine.link(ino, data, `link${count}`)
    expect((await fs.stat(TABLE)).nlink).to.equal(65_000)
    expect(await errnoOf(() => fs.engine.link(ino, data, 'more'))).to.equal('EMLINK')
  })

  it('refuses sizes and positions that a number does not hold exactly', async () => {
    const ino = await fs.ino(TABLE)
    expect(await errnoOf(() => fs.engine.setattr(ino, { size: 2 ** 53 }))).to.equal('EFBIG')
    expect(await errnoOf(() => fs.engine.write(ino, Buffer.alloc(10), 10, 2 ** 53 - 5))).to.equal('EFBIG')
    expect(await errnoOf(() => fs.engine.write(ino, Buffer.alloc(10), 10, 2 ** 52))).to.equal('EFBIG')
  })

  it('frees an inode with its last name and reference, whichever goes last', async () => {
    const file = await fs.create('data/new', pattern(100))
    fs.engine.remember(file)
    fs.engine.unlink(...(await fs.at('data/new')))
    expect(fs.engine.getattr(file).nlink).to.equal(0)
    fs.engine.forget(file, 1)
    expect((await fs.read(file, 100, 0)).equals(pattern(100))).to.equal(true)
    fs.engine.forget(file, 1)
    expect(await errnoOf(() => fs.engine.getattr(file))).to.equal('ENOENT')
    expect(fs.engine.statistics().changedBytes).to.equal(0)
  })

  it('makes, renames and removes 100,000 names in one directory', async function () {
    this.timeout(60_000)
    const directory = fs.engine.mkdir(await fs.ino('data'), 'many', 0o700, CALLER).ino
    for (let count = 0; count < 100_000; count++) {
      fs.engine.forget(fs.engine.mknod(directory, `n${count}`, 0o600, 0, CALLER).ino, 1)
    }
    expect(await fs.engine.readdir(directory)).to.have.length(100_000)
    for (let count = 0; count < 100_000; count += 2) {
      fs.engine.rename(directory, `n${count}`, directory, `m${count}`, 'replace')
    }
    await fs.remount()
    const again = await fs.ino('data/many')
    for (const { name } of await fs.engine.readdir(again)) fs.engine.unlink(again, name)
    expect(await fs.names('data/many')).to.deep.equal([])
    fs.engine.rmdir(await fs.ino('data'), 'many')
    await fs.remount()
    expect(await fs.exists('data/many')).to.equal(false)
  })
})
