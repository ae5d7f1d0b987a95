/** Which reads become direct reads, and what happens to readers in this thread that wait for the same blocks. */
import { writeSync } from 'node:fs'
import { expect } from 'chai'
import { BLOCK } from '../../../agents/target/filesystem/contents/block-map.ts'
import { blockChecks } from '../../../agents/target/filesystem/fetched/block-check.ts'
import { ANSWERED_BY_OTHER_THREAD } from '../../../agents/target/filesystem/file-system.ts'
import {
  type DirectRead,
  type DirectReads,
  MAX_DIRECT_READ_BYTES,
} from '../../../agents/target/filesystem/reads/direct-reads.ts'
import { errnoOf, type Fixture, type FixtureOptions, makeFixture } from '../support/engine-fixture.ts'
import { type MemorySource, memorySource, pattern } from '../support/memory-source.ts'

const TABLE = 'data/base/1/100'
const ASKER = { low: 2, high: 0, pid: 1 }

describe('a read that may become a direct read', () => {
  const table = pattern(100 * BLOCK + 100)
  let source: MemorySource
  let sent: DirectRead[]
  let expected: DirectRead[]
  /** Called when a reader in this thread starts to wait for a direct read. */
  let onExpected: () => void
  let fs: Fixture
  let file: number

  async function mount(options: FixtureOptions = {}, isFull = false): Promise<void> {
    const directReads: DirectReads = {
      isFull,
      send(directRead) {
        sent.push(directRead)
        return () => {
          expected.push(directRead)
          onExpected()
        }
      },
      requesterOf: () => undefined,
    }
    fs = await makeFixture(source, { directReads, ...options })
    file = await fs.open(TABLE)
  }

  beforeEach(async () => {
    source = memorySource({ [TABLE]: table })
    sent = []
    expected = []
    onExpected = () => undefined
    await mount()
  })
  afterEach(() => fs.remove())

  const read = (position: number, length = BLOCK) =>
    fs.engine.read(file, Buffer.alloc(length), length, position, ASKER)
  /** As the other thread does it. */
  function bring(directRead: DirectRead | undefined): void {
    if (directRead === undefined) throw new Error('there is no such direct read')
    writeSync(directRead.fd, table, directRead.offset, directRead.length, directRead.position)
    directRead.onCompleted(
      blockChecks(table.subarray(directRead.offset, directRead.offset + directRead.length)),
    )
  }

  it('becomes a direct read of whole blocks, with the requested part', () => {
    expect(read(5 * BLOCK + 10, BLOCK)).to.equal(ANSWERED_BY_OTHER_THREAD)
    expect(sent[0]).to.include({ ...ASKER, offset: 5 * BLOCK, length: 2 * BLOCK, from: 10, to: BLOCK + 10 })
    expect(read(99 * BLOCK, 2 * BLOCK)).to.equal(ANSWERED_BY_OTHER_THREAD)
    expect(sent[1]).to.include({ offset: 99 * BLOCK, length: BLOCK + 100, from: 0, to: BLOCK + 100 })
    expect(source.reads).to.eql([])
  })

  it('leaves blocks that are in the store from then on', async () => {
    void read(7 * BLOCK)
    bring(sent[0])
    expect((await fs.read(file, BLOCK, 7 * BLOCK)).equals(table.subarray(7 * BLOCK, 8 * BLOCK))).to.equal(
      true,
    )
    expect(read(7 * BLOCK)).to.equal(BLOCK)
    expect(fs.engine.statistics().fetchedBytes).to.equal(BLOCK)
    await fs.engine.flushFetched()
    await fs.remount()
    file = await fs.open(TABLE)
    expect(read(7 * BLOCK)).to.equal(BLOCK)
    expect(source.reads).to.eql([])
  })

  it('makes other readers of the block wait for it, and a write of a part of it', async () => {
    void read(3 * BLOCK)
    expect(expected).to.eql([])
    const other = fs.read(file, BLOCK, 3 * BLOCK)
    const write = fs.write(file, Buffer.from('changed'), 3 * BLOCK + 5)
    expect(expected).to.eql([sent[0]])
    bring(sent[0])
    await write
    const block = Buffer.from(table.subarray(3 * BLOCK, 4 * BLOCK))
    expect([block.toString('hex'), changed(block)]).to.include((await other).toString('hex'))
    expect((await fs.read(file, BLOCK, 3 * BLOCK)).toString('hex')).to.equal(changed(block))
    expect(source.reads).to.eql([])
  })

  it('fails for all who wait for it, and is requested again by the next reader', async () => {
    void read(3 * BLOCK)
    const other = errnoOf(() => fs.read(file, BLOCK, 3 * BLOCK))
    sent[0]?.onFailed(new Error('away'))
    expect(await other).to.equal('EIO')
    expect(fs.engine.statistics().lastError).to.contain('away')
    expect(read(3 * BLOCK)).to.equal(ANSWERED_BY_OTHER_THREAD)
  })

  it('that could not be kept is fetched again for those who wait for it', async () => {
    void read(3 * BLOCK)
    const other = fs.read(file, BLOCK, 3 * BLOCK)
    sent[0]?.onCompleted(undefined)
    expect((await other).equals(table.subarray(3 * BLOCK, 4 * BLOCK))).to.equal(true)
    expect(source.reads.length).to.equal(1)
  })

  it('is complete for readers of several that complete while they start to wait', async () => {
    void read(3 * BLOCK)
    void read(4 * BLOCK)
    onExpected = () => {
      for (const directRead of sent.splice(0)) bring(directRead)
    }
    const both = fs.read(file, 2 * BLOCK, 3 * BLOCK)
    expect((await both).equals(table.subarray(3 * BLOCK, 5 * BLOCK))).to.equal(true)
  })

  it('is answered in this thread where a block is already being fetched, was changed, or the read is large', async () => {
    const other = fs.read(file, BLOCK, 3 * BLOCK)
    const [first, changes] = [read(2 * BLOCK, 2 * BLOCK), fs.write(file, Buffer.alloc(BLOCK), 20 * BLOCK)]
    await Promise.all([other, first, changes])
    expect(await read(20 * BLOCK, 2 * BLOCK)).to.equal(2 * BLOCK)
    expect(await read(30 * BLOCK, MAX_DIRECT_READ_BYTES + BLOCK)).to.equal(MAX_DIRECT_READ_BYTES + BLOCK)
    expect(sent).to.eql([])
  })

  it('is answered in this thread where there is no store, or too many direct reads are in progress', async () => {
    await fs.remove()
    await mount({ fetchedBytes: 0 })
    expect(await read(0)).to.equal(BLOCK)
    await fs.remove()
    await mount({}, true)
    expect(await read(0)).to.equal(BLOCK)
    expect(sent).to.eql([])
  })
})

function changed(block: Buffer): string {
  const copy = Buffer.from(block)
  copy.write('changed', 5)
  return copy.toString('hex')
}
