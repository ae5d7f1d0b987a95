/** Local copies of a backup's blocks: found again, shared, and never wrong. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { expect } from 'chai'
import { BLOCK } from '../../../agents/target/filesystem/contents/block-map.ts'
import {
  fetchedBytesOnDisk,
  fetchedStoreKey,
  trimFetchedStores,
} from '../../../agents/target/filesystem/fetched/fetched-stores.ts'
import { pattern } from '../support/memory-source.ts'
import { makeStores, readStore, type Stores } from './store-fixture.ts'

describe('the store of fetched blocks', () => {
  let stores: Stores

  beforeEach(() => {
    stores = makeStores()
  })
  afterEach(() => stores.remove())

  const data = pattern(40 * BLOCK - 100)

  it('returns kept blocks, at any offset and across blocks that arrived in any order', () => {
    const { store } = stores.open()
    for (const first of [30, 0, 20, 10]) {
      expect(store.keep(7, first, data.subarray(first * BLOCK, (first + 10) * BLOCK))).to.equal('kept')
    }
    expect(readStore(store, 7, 0, data.length)?.equals(data)).to.equal(true)
    expect(readStore(store, 7, 12345, 100_000)?.equals(data.subarray(12345, 112_345))).to.equal(true)
    expect(store.bytes).to.equal(40 * BLOCK)
  })

  it('has large pieces written by another thread, and holds them only then', async () => {
    const { store, asked } = stores.open()
    const kept = store.keepMuch(7, 0, data)
    expect(store.has(7, 0)).to.equal(false)
    expect(store.keep(7, 3, data.subarray(3 * BLOCK, 4 * BLOCK))).to.equal('kept')
    expect(await kept).to.equal('kept')
    expect(asked).to.include('write')
    expect(readStore(store, 7, 0, data.length)?.equals(data)).to.equal(true)
    expect(store.bytes).to.equal(40 * BLOCK)
  })

  it('leaves large pieces to another thread while the disk is busy, and tries again later', async () => {
    let now = 0
    let slow = 100
    const { store } = stores.open({}, undefined, () => {
      now += slow
      return now
    })
    expect(store.isBusy).to.equal(false)
    store.keep(1, 0, data)
    expect(store.isBusy).to.equal(true)
    slow = 0
    const much = pattern(8 * 1024 * 1024)
    for (let at = 1; at <= 7; at++) {
      expect(await store.keepMuch(1, at * 1024, much)).to.equal('kept')
      expect(store.isBusy).to.equal(true)
    }
    await store.keepMuch(1, 8 * 1024, much)
    expect(store.isBusy).to.equal(false)
  })

  it('does not mistake one file or block for another', () => {
    const { store } = stores.open()
    store.keep(3, 5, data.subarray(0, BLOCK))
    expect(store.has(3, 5)).to.equal(true)
    for (const [file, block] of [
      [3, 4],
      [3, 6],
      [2, 5],
      [4, 5],
      [3, 5 + 1024],
      [3, 2 ** 30 - 1],
    ] as const) {
      expect(store.has(file, block), `${file} ${block}`).to.equal(false)
    }
    expect(readStore(store, 3, 5 * BLOCK, BLOCK + 1)).to.equal(undefined)
  })

  it('is found again after a close', async () => {
    const before = stores.open()
    before.store.keep(7, 0, data)
    before.store.keep(8, 2000, data.subarray(0, BLOCK))
    await before.close()
    const { store } = stores.open()
    expect(readStore(store, 7, 0, data.length)?.equals(data)).to.equal(true)
    expect(store.has(8, 2000)).to.equal(true)
    expect(store.has(8, 0)).to.equal(false)
  })

  it('syncs data before it saves the index', async () => {
    const { store, asked } = stores.open()
    store.keep(7, 0, data)
    await store.flush()
    expect(asked.filter((what) => what !== 'reserve')).to.deep.equal(['sync', 'save'])
  })

  it('does not list blocks kept after the last flush, once its process is gone', async () => {
    const before = stores.open()
    before.store.keep(7, 0, data.subarray(0, BLOCK))
    await before.store.flush()
    before.store.keep(7, 1, data.subarray(BLOCK, 2 * BLOCK))
    before.crash()
    const { store } = stores.open()
    expect([store.has(7, 0), store.has(7, 1)]).to.deep.equal([true, false])
  })

  it('does not save blocks kept during a sync', async () => {
    const before = stores.open()
    before.store.keep(7, 0, data.subarray(0, BLOCK))
    before.duringSync = () => before.store.keep(7, 1, data.subarray(BLOCK, 2 * BLOCK))
    await before.store.flush()
    expect(before.store.unflushed).to.equal(true)
    before.crash()
    const { store } = stores.open()
    expect([store.has(7, 0), store.has(7, 1)]).to.deep.equal([true, false])
  })

  it('retries a failed save', async () => {
    const before = stores.open()
    before.failSaves = true
    before.store.keep(7, 0, data)
    await before.store.flush()
    expect(before.store.unflushed).to.equal(true)
    before.failSaves = false
    await before.close()
    expect(stores.open().store.has(7, 0)).to.equal(true)
  })

  it('is shared by sessions that are open at once, and loses the blocks of none', async () => {
    const one = stores.open()
    const two = stores.open()
    one.store.keep(7, 0, data.subarray(0, BLOCK))
    two.store.keep(7, 1, data.subarray(BLOCK, 2 * BLOCK))
    two.store.keep(7, 0, data.subarray(0, BLOCK))
    await one.store.flush()
    await two.store.flush()
    expect(readStore(two.store, 7, 0, 2 * BLOCK)?.equals(data.subarray(0, 2 * BLOCK))).to.equal(true)
    one.store.keep(9, 0, data.subarray(0, BLOCK))
    await one.store.flush()
    expect(one.store.has(7, 1)).to.equal(true)
    one.crash()
    two.crash()
    const later = stores.open()
    expect(readStore(later.store, 7, 0, 2 * BLOCK)?.equals(data.subarray(0, 2 * BLOCK))).to.equal(true)
    expect(later.store.has(9, 0)).to.equal(true)
  })

  it('fills many extents without a pause, and reserves ahead', async () => {
    const opened = stores.open()
    const chunk = pattern(8 * 1024 * 1024)
    for (let at = 0; at < 20; at++) {
      expect(opened.store.keep(1, at * 1024, chunk)).to.equal('kept')
      await Promise.resolve()
      await Promise.resolve()
      await Promise.resolve()
    }
    expect(readStore(opened.store, 1, 19 * chunk.length, chunk.length)?.equals(chunk)).to.equal(true)
    await opened.close()
    expect(stores.open().store.has(1, 20 * 1024 - 1)).to.equal(true)
  })

  it('refuses blocks beyond the budget, and reports it', async () => {
    let rooms = 0
    const { store } = stores.open({ budgetBytes: 2 * 1024 * 1024 }, () => rooms++)
    const chunk = pattern(1024 * 1024)
    const answers: string[] = []
    for (let at = 0; at < 6; at++) {
      answers.push(store.keep(1, at * 128, chunk))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(answers[0]).to.equal('kept')
    expect(answers.at(-1)).to.equal('refused')
    expect(rooms).to.be.greaterThan(0)
    expect(fetchedBytesOnDisk(stores.root)).to.be.lessThan(2.5 * 1024 * 1024)
    expect(readStore(store, 1, 0, chunk.length)?.equals(chunk)).to.equal(true)
  })

  it('keeps nothing when the file system is down to its reserve', () => {
    const { store } = stores.open({ reserveBytes: 1e15 })
    expect(store.keep(1, 0, data)).to.equal('refused')
  })

  const filled = async () => {
    const before = stores.open()
    before.store.keep(7, 0, data)
    await before.close()
  }
  const damages: Record<string, () => void> = {
    'the index is no database': () =>
      writeFileSync(`${stores.directory}/index.sqlite`, 'no database at all'.repeat(500)),
    'the index is cut': () => truncateSync(`${stores.directory}/index.sqlite`, 5000),
    'the data are cut': () => truncateSync(`${stores.directory}/blocks.data`, 3 * BLOCK),
    'the data are missing': () => writeFileSync(`${stores.directory}/blocks.data`, ''),
    'the data are of another store': () => {
      const fd = openSync(`${stores.directory}/blocks.data`, 'r+')
      writeSync(fd, 'howdah fetched blocks 1 another', 0)
      closeSync(fd)
    },
    'the format is another': () => change('UPDATE store SET format = 999'),
    'a row is nonsense': () => change("UPDATE chunks SET slots = x'010203'"),
    'a row names blocks that were never reserved': () =>
      change("UPDATE chunks SET slots = x'ffffff00', checks = x'00000000'"),
  }
  function change(sql: string): void {
    const database = new DatabaseSync(`${stores.directory}/index.sqlite`)
    database.exec(sql)
    database.close()
  }
  for (const [what, damage] of Object.entries(damages)) {
    it(`is discarded and replaced by an empty one when ${what}`, async () => {
      await filled()
      damage()
      const { store } = stores.open()
      expect(store.has(7, 0)).to.equal(false)
      expect(store.keep(7, 0, data)).to.equal('kept')
      expect(readStore(store, 7, 0, data.length)?.equals(data)).to.equal(true)
    })
  }

  it('is kept when it only cannot be opened at the moment', async () => {
    await filled()
    const database = new DatabaseSync(`${stores.directory}/index.sqlite`)
    try {
      database.exec('BEGIN IMMEDIATE')
      expect(stores.open().store.keep(7, 0, data)).to.equal('refused')
    } finally {
      database.close()
    }
    expect(stores.open().store.has(7, 0)).to.equal(true)
  })

  it('holds nothing any more when its data file is truncated while it is open', async () => {
    const { store } = stores.open()
    store.keep(7, 0, data)
    truncateSync(`${stores.directory}/blocks.data`, 2 * BLOCK)
    expect(readStore(store, 7, 0, data.length)).to.equal(undefined)
    expect(store.has(7, 0)).to.equal(false)
    expect(store.keep(7, 0, data)).to.equal('refused')
  })

  const block = (fill: number) => Buffer.alloc(BLOCK, fill)
  /** Writes over the block of a file's only chunk, past everybody's back. */
  function overwrite(bytes: Buffer, slot = 1): void {
    const fd = openSync(`${stores.directory}/blocks.data`, 'r+')
    writeSync(fd, bytes, 0, bytes.length, slot * BLOCK)
    closeSync(fd)
  }

  it('is not overwritten under a session that has it open, when its index is missing', async () => {
    const live = stores.open()
    live.store.keep(0, 0, block(0x11))
    await live.store.flush()
    for (const suffix of ['', '-wal', '-shm']) {
      rmSync(`${stores.directory}/index.sqlite${suffix}`, { force: true })
    }
    const next = stores.open()
    next.store.keep(7, 0, block(0x22))
    expect(readStore(live.store, 0, 0, BLOCK)?.equals(block(0x11))).to.equal(true)
    expect(readStore(next.store, 7, 0, BLOCK)?.equals(block(0x22))).to.equal(true)
    expect(next.store.has(0, 0)).to.equal(false)
  })

  it('never returns a block that does not match its checksum, whole or in part, and removes it from the index', async () => {
    for (const [position, length] of [
      [0, BLOCK],
      [100, 50],
      [BLOCK - 10, 20],
    ] as const) {
      stores.remove()
      stores = makeStores()
      const before = stores.open()
      before.store.keep(7, 0, data.subarray(0, 3 * BLOCK))
      await before.close()
      overwrite(block(0))
      const { store, asked } = stores.open()
      expect(readStore(store, 7, position, length)).to.equal(undefined)
      expect([store.has(7, 0), store.has(7, 1), asked.includes('drop')]).to.eql([false, true, true])
      expect(store.keep(7, 0, data.subarray(0, BLOCK))).to.equal('kept')
      expect(readStore(store, 7, 0, 3 * BLOCK)?.equals(data.subarray(0, 3 * BLOCK))).to.equal(true)
      await store.flush()
      const later = stores.open()
      expect(readStore(later.store, 7, 0, 3 * BLOCK)?.equals(data.subarray(0, 3 * BLOCK))).to.equal(true)
    }
  })

  it('verifies the last block of a file, though it is short', async () => {
    const before = stores.open()
    before.store.keep(7, 0, data)
    await before.close()
    const { store } = stores.open()
    expect(readStore(store, 7, 39 * BLOCK, BLOCK - 100)?.equals(data.subarray(39 * BLOCK))).to.equal(true)
    expect(
      readStore(store, 7, 39 * BLOCK + 7, 5)?.equals(data.subarray(39 * BLOCK + 7, 39 * BLOCK + 12)),
    ).to.equal(true)
  })

  it('forgets what no save vouches for when a sync fails, and keeps nothing more', async () => {
    const one = stores.open()
    const { store, asked } = one
    store.keep(7, 0, data.subarray(0, BLOCK))
    await store.flush()
    store.keep(7, 1, data.subarray(BLOCK, 2 * BLOCK))
    const place = store.reserve(1)
    if (place === undefined) throw new Error('there is no room')
    one.failSyncs = 1
    await store.flush()
    expect([store.has(7, 0), store.has(7, 1)]).to.eql([true, false])
    expect(store.keep(7, 2, data.subarray(0, BLOCK))).to.equal('refused')
    expect(store.reserve(1)).to.equal(undefined)
    expect(store.filled(place, 9, 0, [1])).to.equal('refused')
    await store.flush()
    expect(asked.filter((what) => what === 'save').length).to.equal(1)
    const later = stores.open()
    expect([later.store.has(7, 0), later.store.has(7, 1), later.store.has(9, 0)]).to.eql([true, false, false])
  })

  it('loses a file that turned out to be damaged, for those who open it later too', async () => {
    const one = stores.open()
    const two = stores.open()
    one.store.keep(7, 0, data)
    one.store.keep(8, 0, data)
    await one.store.flush()
    two.store.keep(9, 0, data)
    await two.store.flush()
    expect(two.store.has(7, 0)).to.equal(true)
    one.store.drop(7)
    expect([one.store.has(7, 0), one.store.has(8, 0)]).to.eql([false, true])
    two.store.keep(7, 100, data)
    await two.store.flush()
    const later = stores.open()
    expect([0, 39, 100].map((at) => later.store.has(7, at))).to.eql([false, false, true])
    expect(later.store.has(8, 0)).to.equal(true)
  })

  it('neither holds nor keeps a block that the repository has damaged, for those who open it later too', async () => {
    const one = stores.open()
    one.store.keep(7, 0, data)
    await one.store.flush()
    one.store.noteDamaged(7, 3)
    one.store.noteDamaged(7, 50)
    expect([2, 3, 4].map((at) => one.store.has(7, at))).to.eql([true, false, true])
    expect(one.store.keep(7, 3, data.subarray(3 * BLOCK, 4 * BLOCK))).to.equal('kept')
    one.store.keep(7, 48, data.subarray(0, 5 * BLOCK))
    const place = one.store.reserve(1)
    if (place === undefined) throw new Error('there is no room')
    one.store.filled(place, 7, 3, [1])
    expect([3, 48, 50, 52].map((at) => one.store.has(7, at))).to.eql([false, true, false, true])
    await one.store.flush()
    const later = stores.open()
    expect([2, 3, 4, 48, 50, 52].map((at) => later.store.has(7, at))).to.eql([
      true,
      false,
      true,
      true,
      false,
      true,
    ])
    // What came since the repository was mended.
    expect(later.store.keep(7, 3, data.subarray(3 * BLOCK, 4 * BLOCK))).to.equal('kept')
    expect(readStore(later.store, 7, 3 * BLOCK, BLOCK)?.equals(data.subarray(3 * BLOCK, 4 * BLOCK))).to.equal(
      true,
    )
  })

  it('does not save a block that turned out to be damaged while it was being saved', async () => {
    const one = stores.open()
    one.store.keep(7, 0, data)
    one.duringSync = () => one.store.noteDamaged(7, 3)
    await one.store.flush()
    const later = stores.open()
    expect([2, 3].map((at) => later.store.has(7, at))).to.eql([true, false])
  })

  it('keeps nothing more of a file that is damaged all over', () => {
    const { store } = stores.open()
    store.keep(7, 5000, data)
    for (let block = 0; block < 1001; block++) store.noteDamaged(7, block)
    expect(store.has(7, 5000)).to.equal(false)
    store.keep(7, 5000, data)
    expect(store.has(7, 5000)).to.equal(false)
    store.keep(8, 5000, data)
    expect(store.has(8, 5000)).to.equal(true)
  })

  it('stays usable for those who have it open when it is removed', async () => {
    const { store } = stores.open()
    store.keep(7, 0, data)
    await trimFetchedStores(stores.root, 0, new Set())
    expect(existsSync(stores.directory)).to.equal(false)
    expect(readStore(store, 7, 0, data.length)?.equals(data)).to.equal(true)
    await store.flush()
    expect(stores.open().store.has(7, 0)).to.equal(false)
  })
})

describe('the budget of fetched stores', () => {
  let stores: Stores
  const keys = ['1', '2', '3'].map((digit) => digit.repeat(40))

  beforeEach(() => {
    stores = makeStores()
    keys.forEach((key, age) => {
      mkdirSync(`${stores.root}/${key}`)
      writeFileSync(`${stores.root}/${key}/blocks.data`, Buffer.alloc(1024 * 1024, 1))
      utimesSync(`${stores.root}/${key}`, 1000 + age, 1000 + age)
    })
  })
  afterEach(() => stores.remove())

  it('is kept by removing what was used longest ago', async () => {
    const removed = await trimFetchedStores(stores.root, 2.5 * 1024 * 1024, new Set())
    expect(removed).to.deep.equal([keys[0]])
    expect(existsSync(`${stores.root}/${keys[1]}`)).to.equal(true)
    expect(fetchedBytesOnDisk(stores.root)).to.be.within(2 * 1024 ** 2, 2.5 * 1024 ** 2)
  })

  it('never takes what a session uses', async () => {
    expect(await trimFetchedStores(stores.root, 0, new Set(keys.slice(0, 1)))).to.deep.equal(keys.slice(1))
    expect(existsSync(`${stores.root}/${keys[0]}`)).to.equal(true)
  })

  it('keeps directories that are not stores', async () => {
    writeFileSync(`${stores.root}/main-demo.touched.json`, '{}')
    await trimFetchedStores(stores.root, 0, new Set())
    expect(statSync(`${stores.root}/main-demo.touched.json`).isFile()).to.equal(true)
  })

  it('has nothing to do before the first session', async () => {
    expect(await trimFetchedStores(`${stores.root}/none`, 0, new Set())).to.deep.equal([])
  })

  it('counts one store for one backup, and another for other contents under the same label', () => {
    const backup = { repository: 'r', instance: 'i', label: 'l', fingerprint: 'f' }
    expect(fetchedStoreKey(backup)).to.equal(fetchedStoreKey({ ...backup }))
    expect(fetchedStoreKey(backup)).to.not.equal(fetchedStoreKey({ ...backup, fingerprint: 'g' }))
    expect(fetchedStoreKey({ ...backup, repository: 'ri', instance: '' })).to.not.equal(
      fetchedStoreKey({ ...backup, repository: 'r', instance: 'i' }),
    )
  })
})
