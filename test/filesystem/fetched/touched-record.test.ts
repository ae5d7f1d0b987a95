/** What a publish touched: recorded, saved, and turned into what to fetch for another one. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { expect } from 'chai'
import { BLOCK } from '../../../agents/target/filesystem/contents/block-map.ts'
import { planPrefetch } from '../../../agents/target/filesystem/fetched/prefetch.ts'
import {
  loadTouched,
  saveTouched,
  type TouchedRecord,
  TouchRecorder,
} from '../../../agents/target/filesystem/fetched/touched-record.ts'
import { type BaseTree, buildBaseTree } from '../../../agents/target/filesystem/tree/base-tree.ts'
import { memorySource } from '../support/memory-source.ts'

const NOTHING_HELD = { isHeld: () => false, budget: 1e9, maxRange: 64 * BLOCK }

/** `sizes`: blocks by file name in `data/base`; the source's file numbers are in the order of the names. */
function tree(sizes: Readonly<Record<string, number>>): Promise<BaseTree> {
  const files = Object.entries(sizes).map(([name, blocks]) => [
    `data/base/${name}`,
    Buffer.alloc(blocks * BLOCK),
  ])
  return buildBaseTree(memorySource(Object.fromEntries(files)).tree())
}

function ino(base: BaseTree, path: string): number {
  return path.split('/').reduce((at, name) => base.lookup(at, name), 1)
}

function blocks(ranges: readonly { file: number; offset: number; length: number }[]): number[][] {
  return ranges.map(({ file, offset, length }) => [file, offset / BLOCK, length / BLOCK])
}

describe('the record of what a publish touched', () => {
  it('has every block once, in the order in which they were wanted', async () => {
    const base = await tree({ a: 100, b: 100 })
    const recorder = new TouchRecorder()
    const [a, b] = [ino(base, 'data/base/a'), ino(base, 'data/base/b')]
    recorder.touch(a, 5, 6)
    recorder.touch(a, 7, 7)
    recorder.touch(b, 0, 0)
    recorder.touch(a, 0, 7)
    expect(recorder.record(base)).to.deep.equal({
      version: 1,
      paths: ['data/base/a', 'data/base/b'],
      ranges: [0, 5, 3, 1, 0, 1, 0, 0, 5],
    })
  })

  it('stays small whatever is read', async () => {
    const base = await tree({ a: 1 })
    const recorder = new TouchRecorder()
    for (let block = 0; block < 200_000; block += 2) recorder.touch(ino(base, 'data/base/a'), block, block)
    expect(JSON.stringify(recorder.record(base)).length).to.be.lessThan(200_000)
  })

  it('is mapped to the files of another backup by their paths', async () => {
    const record: TouchedRecord = {
      version: 1,
      paths: ['data/base/gone', 'data/base/b', 'data/base/a'],
      ranges: [0, 0, 4, 1, 3, 4, 2, 1, 1],
    }
    const base = await tree({ a: 10, 'aa-new': 1, b: 5 })
    expect(blocks(planPrefetch(record, base, NOTHING_HELD))).to.deep.equal([
      [2, 3, 2],
      [0, 1, 1],
    ])
  })

  it('leaves out what is held, and what would be more than the budget', async () => {
    const record: TouchedRecord = { version: 1, paths: ['data/base/a'], ranges: [0, 0, 100] }
    const base = await tree({ a: 100 })
    const isHeld = (_: number, block: number) => block === 10
    expect(blocks(planPrefetch(record, base, { ...NOTHING_HELD, isHeld, budget: 80 * BLOCK }))).to.deep.equal(
      [
        [0, 0, 10],
        [0, 11, 64],
      ],
    )
  })

  it('ignores invalid numbers', async () => {
    const record: TouchedRecord = {
      version: 1,
      paths: ['data/base/a', 'data', '', '../..'],
      ranges: [0, 1e15, 1e15, 7, 0, 1, 1, 0, 1, 2, 0, 1, 3, 0, 1, 0, 8, 1e15, 0, 8, 1],
    }
    expect(blocks(planPrefetch(record, await tree({ a: 10 }), NOTHING_HELD))).to.deep.equal([[0, 8, 2]])
  })
})

describe('the file of what a publish touched', () => {
  let root: string
  const record: TouchedRecord = { version: 1, paths: ['data/PG_VERSION'], ranges: [0, 0, 1] }

  beforeEach(() => {
    root = mkdtempSync('/var/tmp/howdah-touched-')
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  it('is kept for each instance, and replaced', async () => {
    await saveTouched(root, 'main', 'demo', { ...record, ranges: [] })
    await saveTouched(root, 'main', 'demo', record)
    expect(await loadTouched(root, 'main', 'demo')).to.deep.equal(record)
    expect(await loadTouched(root, 'main', 'other')).to.equal(undefined)
    expect(readdirSync(root)).to.have.length(1)
  })

  it('lies in its directory whatever the instance is called', async () => {
    const names = [
      ['..', '/../x'],
      ['a-b', 'c'],
      ['a', 'b-c'],
      ['r', 'i'.repeat(1000)],
    ] as const
    for (const [repository, instance] of names) await saveTouched(root, repository, instance, record)
    expect(readdirSync(root)).to.have.length(4)
    expect(await loadTouched(root, 'a-b', 'c')).to.deep.equal(record)
  })

  for (const [what, text] of Object.entries({
    'no JSON': '{"version": 1, "paths"',
    'another version': '{"version": 2, "paths": [], "ranges": []}',
    'no record': '[1, 2, 3]',
    'not about numbers': '{"version": 1, "paths": [], "ranges": ["a", 2, 3]}',
  })) {
    it(`counts for none when it is ${what}`, async () => {
      await saveTouched(root, 'main', 'demo', record)
      writeFileSync(`${root}/${readdirSync(root)[0]}`, text)
      expect(await loadTouched(root, 'main', 'demo')).to.equal(undefined)
    })
  }
})
