/** How the backup's contents reach readers: how often the repository is read, and what is read ahead. */
import { mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { expect } from 'chai'
import type { FileRange, RangeData } from '../../../agents/dataplane/backup-source.ts'
import { BLOCK } from '../../../agents/target/filesystem/contents/block-map.ts'
import type { TouchedRecord } from '../../../agents/target/filesystem/fetched/touched-record.ts'
import type { Services } from '../../../agents/target/filesystem/services.ts'
import { HowdahError } from '../../../messages/errors.ts'
import { errnoOf, type Fixture, type FixtureOptions, makeFixture } from '../support/engine-fixture.ts'
import { type MemorySource, memorySource, pattern } from '../support/memory-source.ts'

const MIB = 1024 * 1024
const TABLE = 'data/base/1/100'
const OTHER = 'data/base/1/200'

describe('the read path', () => {
  const table = pattern(16 * MIB + 100)
  const other = pattern(100 * BLOCK, 2)
  let source: MemorySource
  let root: string
  let open: Fixture[]

  beforeEach(() => {
    source = memorySource({ [TABLE]: table, [OTHER]: other })
    root = mkdtempSync('/var/tmp/howdah-fetched-')
    open = []
  })
  afterEach(async () => {
    for (const one of open) await one.remove()
    rmSync(root, { recursive: true, force: true })
  })

  async function mount(options: FixtureOptions = {}): Promise<Fixture> {
    const fs = await makeFixture(source, { fetchedRoot: root, ...options })
    open.push(fs)
    return fs
  }
  /** Sequential reads of `length` bytes from `from` to `end`, each awaited. */
  async function scan(
    fs: Fixture,
    path: string,
    length: number,
    from = 0,
    end = table.length,
  ): Promise<Buffer> {
    const file = await fs.open(path)
    const parts: Buffer[] = []
    for (let at = from; at < end; at += length) {
      parts.push(await fs.read(file, Math.min(length, end - at), at))
      await turn()
    }
    return Buffer.concat(parts)
  }

  it('keeps fetched blocks across a remount, and does not request them again', async () => {
    const fs = await mount()
    await fs.readFile(TABLE)
    await fs.remount()
    const before = source.reads.length
    expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    expect(source.reads.length).to.equal(before)
  })

  it('uses blocks that another session of the backup fetched, while both are mounted', async () => {
    const one = await mount()
    const two = await mount()
    await one.readFile(OTHER)
    await settled(one)
    await two.read(await two.open(TABLE), BLOCK, 0)
    await settled(two)
    const before = source.reads.length
    expect((await two.readFile(OTHER)).equals(other)).to.equal(true)
    expect(source.reads.length).to.equal(before)
    expect(two.engine.statistics().fetchedStoreBytes).to.equal(101 * BLOCK)
  })

  it('shows no session the changes of another', async () => {
    const one = await mount()
    const two = await mount()
    await one.write(await one.open(OTHER), Buffer.from('changed'), 5 * BLOCK + 10)
    await one.engine.flush()
    await settled(one)
    expect((await two.readFile(OTHER)).equals(other)).to.equal(true)
    await two.remount()
    expect((await two.readFile(OTHER)).equals(other)).to.equal(true)
  })

  it('changes part of a block in the store without reading the repository', async () => {
    const fs = await mount()
    await fs.readFile(OTHER)
    await settled(fs)
    const before = source.reads.length
    const file = await fs.open(OTHER)
    expect(fs.engine.write(file, Buffer.from('changed'), 7, 5 * BLOCK + 10)).to.equal(7)
    const expected = Buffer.from(other)
    expected.write('changed', 5 * BLOCK + 10)
    expect((await fs.readFile(OTHER)).equals(expected)).to.equal(true)
    expect(source.reads.length).to.equal(before)
  })

  it('reads from the repository when the store is damaged while it is open', async () => {
    const fs = await mount()
    await fs.readFile(TABLE)
    await settled(fs)
    const [key] = readdirSync(root)
    truncateSync(`${root}/${key}/blocks.data`, BLOCK)
    expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    const file = await fs.open(OTHER)
    await fs.write(file, Buffer.from('changed'), 10)
    expect((await fs.read(file, 7, 10)).toString()).to.equal('changed')
  })

  it('reads a damaged block from the repository each time, and keeps nothing of a damaged file', async () => {
    const fs = await mount()
    const file = await fs.open(TABLE)
    await fs.read(file, BLOCK, 5 * BLOCK)
    await turn()
    fs.engine.noteDamaged(0, 5)
    for (let count = 2; count < 5; count++) {
      await fs.read(file, BLOCK, 5 * BLOCK)
      await turn()
      expect(source.reads.length).to.equal(count)
    }
    await fs.read(file, BLOCK, 7 * BLOCK)
    await turn()
    source.failure = new HowdahError('backup_damaged', 'its checksum is another one')
    expect(await errnoOf(() => fs.read(file, BLOCK, 20 * BLOCK))).to.equal('EIO')
    source.failure = undefined
    const before = source.reads.length
    await fs.read(file, BLOCK, 7 * BLOCK)
    expect(source.reads.length).to.equal(before + 1)
  })

  it('fetches one block for a random read', async () => {
    const fs = await mount()
    const file = await fs.open(TABLE)
    for (let touch = 0; touch < 100; touch++) {
      const block = (touch * 797) % 2048
      const got = await fs.read(file, BLOCK, block * BLOCK)
      expect(got.equals(table.subarray(block * BLOCK, (block + 1) * BLOCK))).to.equal(true)
    }
    const bytes = source.reads.reduce((sum, { length }) => sum + length, 0)
    expect(bytes).to.be.at.most(130 * BLOCK)
  })

  it('fetches a scan in megabytes, each byte once', async () => {
    const fs = await mount()
    expect((await scan(fs, TABLE, 128 * 1024)).equals(table)).to.equal(true)
    expect(source.reads.length).to.be.at.most(30)
    const bytes = source.reads.reduce((sum, { length }) => sum + length, 0)
    expect(bytes).to.equal(table.length)
  })

  it('has several requests in flight for a scan', async () => {
    const fs = await mount()
    await scan(fs, TABLE, 128 * 1024, 0, 2 * MIB)
    const gate = Promise.withResolvers<void>()
    source.gate = gate.promise
    const before = source.reads.length
    const file = await fs.open(TABLE)
    const reads: Promise<unknown>[] = []
    for (let at = 2 * MIB; at < 10 * MIB; at += 128 * 1024) reads.push(fs.read(file, 128 * 1024, at))
    expect(source.reads.length - before).to.be.at.least(4)
    gate.resolve()
    await Promise.all(reads)
  })

  it('fetches a scan as efficiently without a store', async () => {
    const fs = await mount({ fetchedBytes: 0 })
    expect((await scan(fs, TABLE, 128 * 1024)).equals(table)).to.equal(true)
    const bytes = source.reads.reduce((sum, { length }) => sum + length, 0)
    expect(bytes).to.equal(table.length)
  })

  it('requests a block once for all who wait for it, and reports a failure to all of them', async () => {
    const fs = await mount()
    const file = await fs.open(OTHER)
    source.failing = true
    const failures = await Promise.all(
      Array.from({ length: 20 }, () =>
        fs.read(file, BLOCK, 3 * BLOCK).catch((error: { errno: string }) => error.errno),
      ),
    )
    expect(new Set(failures)).to.deep.equal(new Set(['EIO']))
    expect(source.reads).to.have.length(1)
    source.failing = false
    await Promise.all(Array.from({ length: 20 }, () => fs.read(file, BLOCK, 3 * BLOCK)))
    expect(source.reads).to.have.length(2)
  })

  it('does not wait for what it reads ahead', async () => {
    const fs = await mount()
    await scan(fs, TABLE, 128 * 1024, 0, MIB)
    await settled(fs)
    const gate = Promise.withResolvers<void>()
    source.gate = gate.promise
    // Earlier read-ahead has arrived.
    const file = await fs.open(TABLE)
    expect((await fs.read(file, 128 * 1024, MIB)).equals(table.subarray(MIB, MIB + 128 * 1024))).to.equal(
      true,
    )
    gate.resolve()
  })

  describe('after a publish that recorded what it touched', () => {
    let requests: { many: number; one: number }
    /** While set, pieces of a prefetch wait for it. */
    let hold: Promise<void> | undefined
    let ranges: readonly FileRange[]

    const counted = (services: Services): Services => ({
      ...services,
      read(file, offset, length) {
        requests.one++
        return services.read(file, offset, length)
      },
      async readMany(asked, onPiece) {
        requests.many++
        ranges = asked
        const pieces: RangeData[] = []
        await services.readMany(asked, (piece) => pieces.push(piece))
        await hold
        for (const piece of pieces) onPiece(piece)
      },
    })

    async function touch(fs: Fixture): Promise<void> {
      const file = await fs.open(TABLE)
      for (const block of [500, 3, 40, 77, 2048]) await fs.read(file, BLOCK, block * BLOCK)
      await fs.write(await fs.open(OTHER), Buffer.from('x'), 9 * BLOCK + 1)
    }

    async function recorded(): Promise<TouchedRecord> {
      const fs = await mount()
      await touch(fs)
      const record = fs.engine.settled()
      await fs.remove()
      rmSync(root, { recursive: true })
      if (record === undefined) throw new Error('nothing was recorded')
      return record
    }

    beforeEach(() => {
      requests = { many: 0, one: 0 }
      hold = undefined
    })

    it('fetches those blocks in one request, and needs no other', async () => {
      const record = await recorded()
      const fs = await mount({ intercept: counted })
      await fs.engine.prefetch(record)
      await settled(fs)
      await touch(fs)
      expect(requests).to.deep.equal({ many: 1, one: 0 })
      expect(ranges).to.have.length(6)
    })

    it('makes readers of those blocks wait for it', async () => {
      const record = await recorded()
      const gate = Promise.withResolvers<void>()
      hold = gate.promise
      const fs = await mount({ intercept: counted })
      const prefetched = fs.engine.prefetch(record)
      const touched = touch(fs)
      await turn()
      gate.resolve()
      await Promise.all([prefetched, touched])
      expect(requests).to.deep.equal({ many: 1, one: 0 })
    })

    it('does not make a reader wait for a block far back in the stream', async () => {
      const gate = Promise.withResolvers<void>()
      hold = gate.promise
      const fs = await mount({ intercept: counted })
      const record: TouchedRecord = { version: 1, paths: [TABLE, OTHER], ranges: [0, 0, 1024, 1, 0, 1] }
      const prefetched = fs.engine.prefetch(record)
      const got = await fs.read(await fs.open(OTHER), BLOCK, 0)
      expect(got.equals(other.subarray(0, BLOCK))).to.equal(true)
      expect(requests).to.deep.equal({ many: 1, one: 1 })
      gate.resolve()
      await prefetched
      expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    })

    it('fetches separately what the request omitted', async () => {
      const record = await recorded()
      const gate = Promise.withResolvers<void>()
      const fs = await mount({
        intercept: (services) => ({
          ...counted(services),
          async readMany(asked, onPiece) {
            await gate.promise
            await services.readMany(asked.slice(1, 2), onPiece)
            throw new Error('the connection is gone')
          },
        }),
      })
      const prefetched = fs.engine.prefetch(record)
      const touched = touch(fs)
      gate.resolve()
      await Promise.all([prefetched, touched])
      expect((await fs.readFile(TABLE)).equals(table)).to.equal(true)
    })

    it('requests no block that is in the store', async () => {
      const fs = await mount({ intercept: counted })
      await touch(fs)
      await settled(fs)
      const record = fs.engine.settled()
      expect(record?.paths).to.have.length(2)
      if (record !== undefined) await fs.engine.prefetch(record)
      expect(requests.many).to.equal(0)
    })

    it('records nothing once the instance is usable', async () => {
      const fs = await mount()
      fs.engine.settled()
      await touch(fs)
      expect(fs.engine.settled()).to.equal(undefined)
    })
  })
})

/** What has arrived is kept. */
async function settled(fs: Fixture): Promise<void> {
  await turn()
  await fs.engine.flushFetched()
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve))
}
