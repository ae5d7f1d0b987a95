/** WAL decoded ahead of replay on the mount agent: what is decoded, in which bounds, and who hears of failures. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import { isFreed } from '../../agents/dataplane/protocol/freed-buffers.ts'
import { Passphrase } from '../../agents/mount/decode/aes-cbc.ts'
import type { Compression, StoredFile, Transform } from '../../agents/mount/decode/stored-file.ts'
import { combineWalSources, walDirectory } from '../../agents/mount/formats/basebackup/wal-directory.ts'
import { createWalFiles } from '../../agents/mount/formats/wal-files.ts'
import { createSpool, type Spool } from '../../agents/mount/spool/spool.ts'
import { createWalCache, type WalCache } from '../../agents/mount/wal/wal-cache.ts'
import { createWalPrefetch } from '../../agents/mount/wal/wal-prefetch.ts'
import { walListing } from '../../agents/mount/wal-listing.ts'
import { HowdahError } from '../../messages/errors.ts'
import { quiet, temporaryDirectory } from './fixture.ts'

const MiB = 1024 * 1024
const name = (segment: number, timeline = 1) =>
  `0000000${timeline}00000000${segment.toString(16).toUpperCase().padStart(8, '0')}`
const stored = (file: string): StoredFile => ({
  region: { root: '/', path: `/${file}`, offset: 0, length: undefined, wholeFile: true },
  transforms: [],
  size: undefined,
  description: file,
})

describe('the cache of decoded WAL', () => {
  let decoded: string[]
  let running: number
  let mostRunning: number
  let now: number
  /** While set, decoding waits for it. */
  let gate: Promise<void> | undefined
  let failing: Set<string>
  let cache: WalCache

  beforeEach(() => {
    decoded = []
    running = mostRunning = 0
    now = 0
    gate = undefined
    failing = new Set()
    cache = createWalCache({
      key: async ({ region }) => region.path,
      async decode({ description }, maxBytes) {
        decoded.push(description)
        running += 1
        mostRunning = Math.max(mostRunning, running)
        await (gate ?? setImmediate())
        running -= 1
        if (failing.has(description)) throw new Error(`${description} is damaged`)
        if (maxBytes < MiB) throw new Error('too large')
        return Buffer.alloc(MiB, description)
      },
      fileBytes: 4 * MiB,
      maxBytes: 6 * MiB,
      prefetchBytes: 4 * MiB,
      concurrency: 2,
      clock: () => now,
    })
  })

  const read = (file: StoredFile): Promise<Buffer> => cache.use(file, (contents) => contents)

  const settle = async () => {
    for (let round = 0; round < 50; round++) await setImmediate()
  }

  describe('by itself', () => {
    it('decodes a file once that several readers request', async () => {
      const found = await Promise.all([1, 2, 3].map(() => read(stored('a'))))
      expect(decoded).to.deep.equal(['a'])
      expect(found[1]).to.equal(found[0])
      expect(await read(stored('a'))).to.equal(found[0])
    })

    it('serves a request from a running prefetch', async () => {
      await cache.prefetch(stored('a'), MiB)
      await read(stored('a'))
      expect(decoded).to.deep.equal(['a'])
    })

    it('prefetches within its budget, a few concurrently, until prefetched files are requested', async () => {
      const taken: boolean[] = []
      for (const file of 'abcdef') taken.push(await cache.prefetch(stored(file), MiB))
      await settle()
      expect(taken).to.deep.equal([true, true, true, true, false, false])
      expect(decoded).to.deep.equal(['a', 'b', 'c', 'd'])
      expect(mostRunning).to.equal(2)
      await read(stored('a'))
      expect(await cache.prefetch(stored('e'), MiB)).to.equal(true)
    })

    it('does not queue requests behind prefetches', async () => {
      const open = Promise.withResolvers<void>()
      gate = open.promise
      for (const file of 'abcd') await cache.prefetch(stored(file), MiB)
      const waiting = read(stored('d'))
      await settle()
      expect(decoded).to.deep.equal(['a', 'b', 'd'])
      open.resolve()
      expect(await waiting).to.have.lengthOf(MiB)
    })

    it('stays within its bound, and drops requested files before prefetched ones', async () => {
      for (const file of 'efgh') await cache.prefetch(stored(file), MiB)
      await settle()
      for (const file of 'abcd') await read(stored(file))
      decoded = []
      for (const file of 'efgh') await read(stored(file))
      expect(decoded).to.deep.equal([])
      await read(stored('a'))
      expect(decoded).to.deep.equal(['a'])
    })

    it('frees the memory of what it drops, and decodes it again on request', async () => {
      const first = await read(stored('a'))
      for (const file of 'bcdefg') await read(stored(file))
      expect(isFreed(first)).to.equal(true)
      const lengths = await Promise.all(
        [...'abcdefgh'].map((file) => cache.use(stored(file), (c) => c.length)),
      )
      expect(lengths).to.deep.equal(lengths.map(() => MiB))
    })

    it('drops prefetched files after a while that were not requested', async () => {
      for (const file of 'abcd') await cache.prefetch(stored(file), MiB)
      await settle()
      expect(await cache.prefetch(stored('e'), MiB)).to.equal(false)
      now += 61_000
      expect(await cache.prefetch(stored('e'), MiB)).to.equal(true)
    })

    it('reports damage to every request, each time after another attempt', async () => {
      failing.add('a')
      expect(await cache.prefetch(stored('a'), MiB)).to.equal(true)
      await settle()
      const error = await read(stored('a')).catch((caught: unknown) => caught)
      expect(error).to.be.an('error').with.property('message', 'a is damaged')
      failing.clear()
      expect(await read(stored('a'))).to.have.lengthOf(MiB)
    })

    it('limits the size of a prefetched file, but not of a requested one', async () => {
      await cache.prefetch(stored('a'), 1000)
      expect(await read(stored('a'))).to.have.lengthOf(MiB)
      expect(decoded).to.deep.equal(['a', 'a'])
    })
  })

  describe('ahead of a replay', () => {
    let archive: Set<string>
    const locate = async (file: string) => (archive.has(file) ? stored(file) : undefined)
    const segment = Buffer.alloc(MiB)
    let prefetch: ReturnType<typeof createWalPrefetch>

    beforeEach(() => {
      archive = new Set()
      prefetch = createWalPrefetch(locate, cache, () => now)
    })

    it('decodes the segments after the one that is read, up to the first that is missing', async () => {
      for (const number of [1, 2, 3, 5]) archive.add(name(number))
      prefetch.requested(name(1), segment)
      await settle()
      expect(decoded).to.deep.equal([name(2), name(3)])
    })

    it('finds what was added to the archive since', async () => {
      for (const number of [1, 2]) archive.add(name(number))
      prefetch.requested(name(1), segment)
      await settle()
      archive.add(name(3))
      now += 2000
      prefetch.requested(name(1), segment)
      await settle()
      expect(decoded).to.deep.equal([name(2), name(3)])
    })

    it('follows the timelines of the histories that were read', async () => {
      for (const number of [1, 2, 3, 4]) archive.add(name(number))
      for (const number of [3, 4]) archive.add(name(number, 2))
      prefetch.requested('00000002.history', Buffer.from('1\t0/380000\tno recovery target specified\n'))
      prefetch.requested(name(1), segment)
      await settle()
      expect(decoded).to.deep.equal([name(2), name(3, 2), name(4, 2)])
    })

    it('takes the segment of a switch from the old timeline where the new one has none', async () => {
      for (const number of [1, 2, 3]) archive.add(name(number))
      archive.add(name(4, 2))
      prefetch.requested('00000002.history', Buffer.from('1\t0/380000\tno recovery target specified\n'))
      prefetch.requested(name(2), segment)
      await settle()
      expect(decoded).to.deep.equal([name(3), name(4, 2)])
    })

    it('ignores names and contents that are no segment', async () => {
      archive.add(name(2))
      prefetch.requested(name(1), Buffer.alloc(MiB + 1))
      prefetch.requested(name(1), Buffer.alloc(5))
      prefetch.requested('00000002.history', Buffer.from('garbage'))
      await settle()
      expect(decoded).to.deep.equal([])
    })
  })

  describe('with files', function () {
    this.timeout(20_000)
    let directory: string
    let spool: Spool

    beforeEach(async () => {
      directory = await temporaryDirectory()
      spool = createSpool({ directory: join(directory, 'spool'), maxBytes: MiB, logger: quiet })
    })
    afterEach(async () => {
      await spool.close()
      await rm(directory, { recursive: true, force: true })
    })

    it('serves each segment, a damaged one as an error, and one that comes later', async () => {
      const put = (file: string, contents: Buffer) => writeFile(join(directory, `${file}.gz`), contents)
      const plain = (number: number) => Buffer.alloc(MiB, `segment ${number} `)
      for (const number of [1, 3]) await put(name(number), gzipSync(plain(number), { level: 1 }))
      await put(name(2), gzipSync(plain(2)).subarray(0, 100))
      const place = walDirectory({
        roots: { root: directory },
        directory,
        instance: 'shop',
        isArchive: true,
      })
      const nothing = { look: async () => undefined, list: async () => walListing([], '') }
      const wal = createWalFiles(combineWalSources(place, nothing), spool, 'shop')
      expect((await wal.read(name(1), 5, 100)).equals(plain(1).subarray(5, 105))).to.equal(true)
      const error = await wal.size(name(2)).catch((caught: unknown) => caught)
      expect(error).to.be.instanceOf(HowdahError).with.property('code', 'backup_damaged')
      expect(await wal.size(name(3))).to.equal(MiB)
      expect(await wal.size(name(4))).to.equal(undefined)
      await put(name(4), gzipSync(plain(4)))
      expect((await wal.read(name(4), 0, MiB)).equals(plain(4))).to.equal(true)
    })

    it('serves as it is stored what is only compressed, by gz or zst', async () => {
      const path = join(directory, name(1))
      await writeFile(path, 'as it is stored')
      const region = { root: directory, path, offset: 0, length: undefined, wholeFile: true }
      const file = { region, size: undefined, sha1: 'ab'.repeat(20), description: 'a segment' }
      const decompress = (compression: Compression): Transform => ({ kind: 'decompress', compression })
      const decrypt: Transform = { kind: 'decrypt', passphrase: new Passphrase('secret'), raw: false }
      const storedCompression = async (transforms: readonly Transform[], container?: StoredFile) => {
        const locate = async () => ({ ...file, transforms, ...(container && { container }) })
        const list = () => Promise.reject(new Error('unexpected: list'))
        const wal = createWalFiles({ locate, list }, spool, 'shop')
        const stored = await wal.stored(name(1))
        if (stored === undefined) {
          const error = await wal.readStored(name(1), 0, 5).catch((caught: unknown) => caught)
          expect(error).to.include({ code: 'wal_missing' })
          return undefined
        }
        expect(stored).to.include({ bytes: 15, sha1: file.sha1 })
        expect((await wal.readStored(name(1), 3, 100)).toString()).to.equal('it is stored')
        return stored.compression
      }
      expect(await storedCompression([decompress('gz')])).to.equal('gz')
      expect(await storedCompression([decompress('zst')])).to.equal('zst')
      expect(await storedCompression([])).to.equal(undefined)
      expect(await storedCompression([decompress('lz4')])).to.equal(undefined)
      expect(await storedCompression([decrypt, decompress('gz')])).to.equal(undefined)
      expect(await storedCompression([decompress('gz')], stored('archive.tar'))).to.equal(undefined)
    })
  })
})
