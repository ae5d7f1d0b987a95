/** Reading tar archives: what other programs write, what is malformed, and the index that is kept. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import fc from 'fast-check'
import { archiveFile } from '../../agents/mount/formats/basebackup/copy.ts'
import { MalformedTar, UnsupportedTar } from '../../agents/mount/formats/tar/tar-header.ts'
import { createTarIndexes } from '../../agents/mount/formats/tar/tar-index.ts'
import { type TarMember, tarMembers } from '../../agents/mount/formats/tar/tar-members.ts'
import { createSpool, type Spool } from '../../agents/mount/spool/spool.ts'
import { type MadeMember, makeTar, pax, tarHeader } from '../support/tar.ts'
import { quiet, temporaryDirectory } from './fixture.ts'
import { TAR_FUZZ } from './tar-fuzz.ts'

const inMemory = (archive: Buffer) => async (offset: number, length: number) =>
  archive.subarray(offset, offset + length)

async function membersOf(archive: Buffer): Promise<TarMember[]> {
  const found: TarMember[] = []
  for await (const member of tarMembers(inMemory(archive))) found.push(member)
  return found
}

const failureOf = async (archive: Buffer): Promise<Error> =>
  membersOf(archive).then(
    () => {
      throw new Error('nothing failed')
    },
    (error: Error) => error,
  )

describe('tar archives', function () {
  this.timeout(60_000)
  let scratch: string
  before(async () => {
    scratch = await temporaryDirectory()
  })
  after(() => rm(scratch, { recursive: true, force: true }))

  for (const format of ['ustar', 'gnu', 'pax', 'v7']) {
    it(`are read as tar wrote them in the format ${format}`, async () => {
      const directory = join(scratch, format)
      const deep = format === 'v7' ? 'a' : `a/${'b'.repeat(90)}/${'c'.repeat(90)}`
      await mkdir(join(directory, deep), { recursive: true })
      const files: Record<string, Buffer> = {
        [`${deep}/large`]: randomBytes(300_000),
        [`${deep}/empty`]: Buffer.alloc(0),
        block: randomBytes(512),
        ...(format === 'v7' || format === 'ustar' ? {} : { ['é'.repeat(60)]: randomBytes(1000) }),
      }
      for (const [name, data] of Object.entries(files)) await writeFile(join(directory, name), data)
      await symlink('../elsewhere', join(directory, 'link'))
      const archive = execFileSync('tar', ['c', `--format=${format}`, '-C', directory, '.'], {
        maxBuffer: 1e8,
      })
      const found = new Map((await membersOf(archive)).map((member) => [member.path, member]))
      for (const [name, data] of Object.entries(files)) {
        const member = found.get(name)
        if (member === undefined) throw new Error(`${name} is missing`)
        expect(member).to.include({ kind: 'file', size: data.length })
        expect(archive.subarray(member.offset, member.offset + member.size).equals(data)).to.equal(true)
      }
      expect(found.get('link')).to.include({ kind: 'symlink', linkTarget: '../elsewhere' })
      expect(found.get('')).to.include({ kind: 'directory' })
      expect(found.get(deep)).to.include({ kind: 'directory' })
    })
  }

  const data = Buffer.from('contents')
  const hostile: readonly (readonly [string, readonly MadeMember[], typeof MalformedTar, string])[] = [
    ['a path that climbs out', [{ name: '../etc/passwd', data }], MalformedTar, 'leads out'],
    ['a path that climbs out inside', [{ name: 'base/../../x', data }], MalformedTar, 'leads out'],
    ['an absolute path', [{ name: '/etc/passwd', data }], MalformedTar, 'leads out'],
    ['a hard link', [{ name: 'x', type: '1', linkName: '/etc/passwd' }], UnsupportedTar, 'hard link'],
    ['a device', [{ name: 'x', type: '3' }], UnsupportedTar, 'device'],
    ['a FIFO', [{ name: 'x', type: '6' }], UnsupportedTar, 'FIFO'],
    ['a sparse file', [{ name: 'x', type: 'S', data }], UnsupportedTar, 'sparse'],
    [
      'a sparse file by extended header',
      [
        { name: 'p', type: 'x', data: pax({ 'GNU.sparse.major': '1' }) },
        { name: 'x', data },
      ],
      UnsupportedTar,
      'sparse',
    ],
    [
      'a path that climbs out by extended header',
      [
        { name: 'p', type: 'x', data: pax({ path: '../../x' }) },
        { name: 'x', data },
      ],
      MalformedTar,
      'leads out',
    ],
    [
      'a long name that climbs out',
      [
        { name: 'p', type: 'L', data: Buffer.from('../'.repeat(100)) },
        { name: 'x', data },
      ],
      MalformedTar,
      'leads out',
    ],
    [
      'an extended header without end',
      [{ name: 'p', type: 'x', size: 8 * 1024 ** 3, data }],
      MalformedTar,
      'too large',
    ],
    [
      'extended headers without end',
      Array.from({ length: 100 }, () => ({ name: 'p', type: 'x', data: pax({ path: 'x' }) })),
      MalformedTar,
      'too many',
    ],
    [
      'a malformed record',
      [{ name: 'p', type: 'x', data: Buffer.from('99 path=x\n') }],
      MalformedTar,
      'malformed record',
    ],
    ['a size that lies', [{ name: 'x', size: 5_000_000, data }], MalformedTar, 'ends in the middle'],
  ]
  for (const [what, members, kind, message] of hostile) {
    it(`are refused with ${what}`, async () => {
      const error = await failureOf(makeTar(members))
      expect(error).to.be.instanceOf(kind)
      expect(error.message).to.include(message)
    })
  }

  it('are refused when they are cut short, even between two members', async () => {
    const whole = makeTar([
      { name: 'a', data },
      { name: 'b', data },
    ])
    for (const length of [0, 100, 512, 1024, 1536, 2048]) {
      expect(await failureOf(whole.subarray(0, length)), String(length)).to.be.instanceOf(MalformedTar)
    }
  })

  it('are refused with a header that was changed', async () => {
    const archive = makeTar([{ name: 'a', data }])
    archive[3] = 0x41
    expect((await failureOf(archive)).message).to.include('checksum')
  })

  it('never lead outside and never hang, whatever they contain', async () => {
    await fc.assert(TAR_FUZZ, { numRuns: 500 })
  })

  it('of a million members are read in bounded memory', async () => {
    const MEMBERS = 1_000_000
    const template = tarHeader({ name: 'base/16384/0000000' })
    const sumOf = template.reduce((total, byte, n) => total + (n >= 148 && n < 156 ? 32 : byte), 0)
    // Each header is made when it is read: the archive itself would be half a gigabyte.
    const read = async (offset: number, length: number) => {
      const blocks = Buffer.alloc(length)
      for (let at = 0; at < length; at += 512) {
        const n = (offset + at) / 512
        if (n >= MEMBERS) continue
        template.copy(blocks, at)
        const digits = String(n).padStart(7, '0')
        blocks.write(digits, at + 11)
        const sum = sumOf + [...digits].reduce((total, digit) => total + Number(digit), 0)
        blocks.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148)
      }
      return blocks
    }
    let count = 0
    let most = 0
    const begin = process.memoryUsage()
    for await (const _ of tarMembers(read)) {
      count += 1
      if (count % 50_000 === 0) most = Math.max(most, process.memoryUsage().heapUsed - begin.heapUsed)
    }
    expect(count).to.equal(MEMBERS)
    expect(most).to.be.lessThan(128 * 1024 * 1024)
  })

  describe('indexed', () => {
    let root: string
    let spool: Spool
    const openSpool = () =>
      createSpool({ directory: join(root, 'spool'), maxBytes: 1024 ** 3, logger: quiet })

    beforeEach(async () => {
      root = await temporaryDirectory()
      spool = openSpool()
    })
    afterEach(async () => {
      await spool.close()
      await rm(root, { recursive: true, force: true })
    })

    const large = randomBytes(3_000_000)
    const archive = makeTar([
      { name: 'backup_label', data: Buffer.from('label') },
      { name: 'large', data: large },
      { name: 'PG_VERSION', data: Buffer.from('15\n') },
    ])
    const file = () => archiveFile({ root }, join(root, 'base.tar.gz'), 'gz', 'monday')

    async function all(from: Spool): Promise<TarMember[]> {
      const found: TarMember[] = []
      const index = await createTarIndexes(from).open(file())
      for await (const member of index.members()) found.push(member)
      return found
    }

    it('are decoded once, and not again after a restart', async () => {
      await writeFile(join(root, 'base.tar.gz'), gzipSync(archive))
      const first = await all(spool)
      expect(first.map(({ path }) => path)).to.deep.equal(['backup_label', 'large', 'PG_VERSION'])
      const decoded = (await readdir(join(root, 'spool'))).filter((name) => name.endsWith('.plain'))
      expect(decoded).to.have.length(1)
      await spool.close()
      spool = openSpool()
      const read = () => Promise.reject(new Error('it was read again'))
      expect(await all({ ...spool, read })).to.deep.equal(first)
      const [member] = first.filter(({ path }) => path === 'large')
      const got = await spool.read(file(), (member?.offset ?? 0) + 1_234_567, 100_000)
      expect(got.equals(large.subarray(1_234_567, 1_334_567))).to.equal(true)
    })

    it('are indexed again when the archive changed or the index lost its end', async () => {
      await writeFile(join(root, 'base.tar.gz'), gzipSync(archive))
      await all(spool)
      const directory = spool.indexDirectory
      const [kept = ''] = await readdir(directory)
      await truncate(join(directory, kept), (await readFile(join(directory, kept))).length - 3)
      expect(await all(spool)).to.have.length(3)
      await writeFile(join(root, 'base.tar.gz'), gzipSync(makeTar([{ name: 'other', data }])))
      expect((await all(spool)).map(({ path }) => path)).to.deep.equal(['other'])
    })

    it('describe the backup before the rest is indexed', async () => {
      const stored = gzipSync(archive)
      await writeFile(join(root, 'base.tar.gz'), stored.subarray(0, stored.length - 2000))
      const index = await createTarIndexes(spool).open(file())
      // The end of this archive never comes.
      const [label, rest] = await Promise.allSettled([index.find('backup_label'), index.find('PG_VERSION')])
      expect(label).to.have.nested.property('value.size', 5)
      expect(rest).to.have.nested.property('reason.code', 'backup_damaged')
    })

    it('name archive and backup when they are damaged', async () => {
      const stored = gzipSync(archive)
      stored[stored.length >> 1] = (stored[stored.length >> 1] ?? 0) ^ 0xff
      await writeFile(join(root, 'base.tar.gz'), stored)
      const error = await all(spool).catch((caught) => caught)
      expect(error).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include('base.tar.gz').and.include('monday')
    })
  })
})
