/** The spool on its own: decode once, serve early, keep within bounds, survive a restart. */
import { createHash, randomBytes } from 'node:crypto'
import { readdir, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { expect } from 'chai'
import { Passphrase } from '../../agents/mount/decode/aes-cbc.ts'
import type { Compression, StoredFile } from '../../agents/mount/decode/stored-file.ts'
import { createSpool, type Spool } from '../../agents/mount/spool/spool.ts'
import { HowdahError } from '../../messages/errors.ts'
import { encrypt } from './block-writer.ts'
import { quiet, temporaryDirectory } from './fixture.ts'
import { dice } from './reference.ts'

const MiB = 1024 * 1024

describe('the spool', function () {
  this.timeout(30_000)
  let root: string
  let directory: string
  let spools: Spool[]

  beforeEach(async () => {
    root = await temporaryDirectory()
    directory = join(root, 'spool')
    spools = []
  })
  afterEach(async () => {
    await Promise.all(spools.map((spool) => spool.close()))
    await rm(root, { recursive: true, force: true })
  })

  function open(maxBytes = 1024 * MiB): Spool {
    const spool = createSpool({ directory, maxBytes, logger: quiet })
    spools.push(spool)
    return spool
  }

  /** Half noise, so that compressed files have a size worth cutting. */
  function contents(bytes: number): Buffer {
    const plain = Buffer.alloc(bytes, 'howdah ')
    for (let at = 0; at < bytes; at += 8192) randomBytes(Math.min(4096, bytes - at)).copy(plain, at)
    return plain
  }

  async function store(name: string, plain: Buffer, compression: Compression = 'gz'): Promise<StoredFile> {
    const path = join(root, name)
    await writeFile(path, compression === 'gz' ? gzipSync(plain, { level: 1 }) : zstdCompressSync(plain))
    return describeStored(path, plain, compression)
  }
  const describeStored = (path: string, plain: Buffer, compression: Compression): StoredFile => ({
    region: { root, path, offset: 0, length: undefined, wholeFile: true },
    transforms: [{ kind: 'decompress', compression }],
    size: plain.length,
    sha1: createHash('sha1').update(plain).digest('hex'),
    description: `file ${path}`,
  })

  async function failure(work: Promise<unknown>): Promise<HowdahError> {
    const error = await work.then(
      () => undefined,
      (caught: unknown) => caught,
    )
    expect(error).to.be.instanceOf(HowdahError)
    return error as HowdahError
  }

  async function until(condition: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + 20_000
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error('the condition did not come')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const spooled = async () => (await readdir(directory)).filter((name) => name.endsWith('.plain'))
  const parts = async () => (await readdir(directory)).filter((name) => name.endsWith('.part'))

  it('serves ranges of large files of every position', async () => {
    const plain = contents(9 * MiB + 17)
    const spool = open()
    for (const compression of ['gz', 'zst'] as const) {
      const file = await store(`large.${compression}`, plain, compression)
      const ranges = [0, 1, 8191, 5 * MiB + 3, plain.length - 10, plain.length, plain.length + 5]
      await Promise.all(
        ranges.map(async (offset) => {
          const got = await spool.read(file, offset, 100_003)
          expect(got.equals(plain.subarray(offset, offset + 100_003)), `at ${offset}`).to.equal(true)
        }),
      )
    }
  })

  it('serves what is decoded before the rest is', async () => {
    const file = await store('cut.gz', contents(32 * MiB))
    await truncate(join(root, 'cut.gz'), 12 * MiB)
    const spool = open()
    // The end can never be decoded: whatever is served was served before.
    const head = await spool.read(file, 0, 8192)
    expect(head.length).to.equal(8192)
    expect((await failure(spool.read(file, 31 * MiB, 8192))).code).to.equal('backup_damaged')
    expect(await parts()).to.deep.equal([])
    expect(await spooled()).to.deep.equal([])
  })

  it('decodes a file once for all its readers', async () => {
    const plain = contents(4 * MiB)
    const path = (await store('shared.gz', plain)).region.path
    const spool = open()
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        // As sessions do: each has its own description of the file.
        const got = await spool.read(describeStored(path, plain, 'gz'), index * 1000, 5000)
        expect(got.equals(plain.subarray(index * 1000, index * 1000 + 5000))).to.equal(true)
      }),
    )
    await spool.read(describeStored(path, plain, 'gz'), plain.length - 1, 1)
    await until(async () => (await spooled()).length === 1 && (await parts()).length === 0)
  })

  it('keeps small files out of the directory', async () => {
    const plain = contents(MiB)
    const file = await store('small.gz', plain)
    expect((await open().read(file, 1000, 10)).equals(plain.subarray(1000, 1010))).to.equal(true)
    expect(await spooled()).to.deep.equal([])
    expect(await parts()).to.deep.equal([])
  })

  it('serves complete files after a restart without decoding again, and drops incomplete ones', async () => {
    const plain = contents(4 * MiB)
    const file = await store('kept.gz', plain)
    const first = open()
    await first.read(file, plain.length - 1, 1)
    await until(async () => (await spooled()).length === 1)
    await first.close()
    const [name = ''] = await spooled()
    const { ino } = await stat(join(directory, name))
    await writeFile(join(directory, `${'0'.repeat(64)}.3.part`), 'half')

    const second = open()
    expect(await parts()).to.deep.equal([])
    const again = describeStored(file.region.path, plain, 'gz')
    expect((await second.read(again, MiB, 100)).equals(plain.subarray(MiB, MiB + 100))).to.equal(true)
    expect((await stat(join(directory, name))).ino).to.equal(ino)
    expect(await spooled()).to.deep.equal([name])
    expect(await parts()).to.deep.equal([])
  })

  for (const raw of [false, true]) {
    it(`reads ranges of what is only encrypted where they are${raw ? ', raw' : ''}`, async () => {
      const plain = contents(3 * MiB + 5)
      const path = join(root, 'encrypted')
      await writeFile(path, encrypt('a secret', plain, raw))
      const file: StoredFile = {
        ...describeStored(path, plain, 'gz'),
        transforms: [{ kind: 'decrypt', passphrase: new Passphrase('a secret'), raw }],
      }
      const spool = open()
      const random = dice(3)
      for (let round = 0; round < 100; round++) {
        const offset = round % 10 === 0 ? round / 10 : random(plain.length)
        const length = 1 + random(round % 2 === 0 ? 40 : 50_000)
        const got = await spool.read(file, offset, length)
        const wanted = plain.subarray(offset, offset + length)
        expect(got.equals(wanted), `${length} bytes at ${offset}`).to.equal(true)
      }
      expect((await spool.read(file, plain.length, 10)).length).to.equal(0)
      expect((await spool.read(file, 0, plain.length)).equals(plain)).to.equal(true)
      expect(await spooled()).to.deep.equal([])
      await truncate(path, 2 * MiB)
      const cut = await failure(spool.read({ ...file }, MiB, 10))
      expect(cut).to.include({ code: 'backup_damaged' })
    })
  }

  it('compares the checksum of what is read in place once all of it was read, in whatever order', async () => {
    const plain = contents(3 * MiB)
    const path = join(root, 'plain')
    await writeFile(path, plain)
    const file: StoredFile = { ...describeStored(path, plain, 'gz'), transforms: [] }
    const spool = open()
    const offsets = [0, 2, 1, 5, 4, 3].map((number) => (number * MiB) / 2)
    for (const offset of offsets) await spool.read(file, offset, MiB / 2)
    plain[MiB] = (plain[MiB] ?? 0) ^ 1
    await writeFile(path, plain)
    const damaged = { ...file }
    for (const offset of offsets.slice(0, -1)) await spool.read(damaged, offset, MiB / 2)
    const error = await failure(spool.read(damaged, offsets.at(-1) ?? 0, MiB / 2))
    expect(error).to.include({ code: 'backup_damaged' })
    expect(error.message).to.include('checksum').and.include(path)
    // No reader gets any more of it.
    expect(await failure(spool.read(damaged, 0, 10))).to.include({ code: 'backup_damaged' })
  })

  it('decodes a file again that changed in the repository', async () => {
    const path = (await store('changing.gz', contents(2 * MiB))).region.path
    const spool = open()
    const other = contents(2 * MiB)
    await unlink(path)
    const file = await store('changing.gz', other)
    expect((await spool.read(file, 5, 100)).equals(other.subarray(5, 105))).to.equal(true)
  })

  it('stays within its bytes and continues to serve', async () => {
    const spool = open(10 * MiB)
    const files = await Promise.all(
      Array.from({ length: 6 }, async (_, index) => {
        const plain = contents(4 * MiB)
        return { plain, file: await store(`${index}.gz`, plain) }
      }),
    )
    for (const round of [1, 2]) {
      for (const { plain, file } of files) {
        const offset = plain.length - 1000 * round
        expect((await spool.read(file, offset, 500)).equals(plain.subarray(offset, offset + 500))).to.equal(
          true,
        )
      }
    }
    await until(async () => (await parts()).length === 0 && (await spooled()).length <= 2)
  })

  it('reports a wrong size and a wrong checksum as damage', async () => {
    const plain = contents(2 * MiB)
    const file = await store('wrong.gz', plain)
    const spool = open()
    const end = plain.length - 1
    const wrongSum = { ...file, sha1: 'a'.repeat(40) }
    // Reading to the end may be served before the checksum is known; afterwards nothing is.
    await spool.read(wrongSum, end, 1).catch(() => undefined)
    await until(async () => (await parts()).length === 0)
    expect((await failure(spool.read(wrongSum, 0, 1))).message).to.include('checksum')
    for (const size of [plain.length - 1, plain.length + 1]) {
      const error = await failure(spool.read({ ...file, size }, size - 1, 1))
      expect(error.code).to.equal('backup_damaged')
      expect(error.message).to.include(file.region.path)
    }
  })

  it('releases a reader that aborts, and continues for the others', async () => {
    const plain = contents(16 * MiB)
    const file = await store('left.gz', plain)
    const spool = open()
    const given = new AbortController()
    const left = spool.read(file, plain.length - 1, 1, given.signal)
    const stayed = spool.read(file, plain.length - 2, 1)
    given.abort(new Error('given up'))
    expect(String(await left.catch((error: unknown) => error))).to.include('given up')
    expect((await stayed).equals(plain.subarray(-2, -1))).to.equal(true)
  })

  it('fails waiting readers when it closes, and leaves no part file', async () => {
    const plain = contents(32 * MiB)
    const file = await store('closing.gz', plain)
    const spool = open()
    await spool.read(file, 0, 10)
    const waiting = failure(spool.read(file, plain.length - 1, 1))
    await spool.close()
    expect((await waiting).code).to.equal('repository_unavailable')
    expect(await parts()).to.deep.equal([])
  })
})
