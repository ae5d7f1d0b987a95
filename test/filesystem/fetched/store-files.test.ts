/** The two files of a fetched store: made once, and opened only while they belong together. */
import { closeSync, fstatSync, mkdtempSync, renameSync, rmSync, truncateSync } from 'node:fs'
import { expect } from 'chai'
import { BLOCK } from '../../../agents/target/filesystem/contents/block-map.ts'
import {
  inTransaction,
  openStoreFiles,
  type StoreFiles,
  storeRow,
} from '../../../agents/target/filesystem/fetched/store-files.ts'

describe('the files of a fetched store', () => {
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync('/var/tmp/howdah-store-files-')
  })

  afterEach(() => rmSync(directory, { recursive: true }))

  function use<T>(work: (files: StoreFiles) => T): T {
    const files = openStoreFiles(directory)
    try {
      return work(files)
    } finally {
      files.database.close()
      closeSync(files.fd)
    }
  }

  /** As if slot `slot` had been reserved and saved. */
  const save = (slot: number, next = slot + 1) =>
    use(({ database }) => {
      const bytes = new Uint8Array(new Uint32Array([slot]).buffer)
      database.prepare('INSERT INTO chunks VALUES (7, 0, 1, ?, ?)').run(bytes, bytes)
      database.prepare('UPDATE store SET next = ?').run(next)
    })

  it('are made empty, and are the same store when they are opened again', () => {
    const id = use(({ chunks, revision, database }) => {
      expect([chunks, revision]).to.deep.equal([[], 0])
      return storeRow(database)?.id
    })
    expect(use(({ database }) => storeRow(database)?.id)).to.equal(id)
  })

  it('are refused when index and data are of different stores', () => {
    use(() => undefined)
    renameSync(`${directory}/blocks.data`, `${directory}/first.data`)
    rmSync(`${directory}/index.sqlite`)
    use(() => undefined)
    renameSync(`${directory}/first.data`, `${directory}/blocks.data`)
    expect(() => openStoreFiles(directory)).to.throw('different stores')
  })

  it('are refused when the index names a slot that was not reserved, or is not in the data', () => {
    save(3)
    expect(() => openStoreFiles(directory)).to.throw('its data end')
    truncateSync(`${directory}/blocks.data`, 4 * BLOCK)
    expect(use(({ chunks, fd }) => [chunks[0]?.slots[0], fstatSync(fd).size])).to.deep.equal([3, 4 * BLOCK])
    use(({ database }) => database.exec('UPDATE store SET next = 3'))
    expect(() => openStoreFiles(directory)).to.throw('never reserved')
  })

  it('keep nothing of a transaction that fails', () => {
    use(({ database }) => {
      const fail = () =>
        inTransaction(database, () => {
          database.exec('UPDATE store SET next = 100')
          throw new Error('no')
        })
      expect(fail).to.throw('no')
      expect(storeRow(database)?.next).to.equal(1)
    })
  })
})
