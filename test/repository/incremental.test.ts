/**
 * Incremental backups of PostgreSQL 17, put together by the test from the format's description; what they stand for is
 * worked out by it block by block.
 */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import fc from 'fast-check'
import type { StoredFile } from '../../agents/mount/decode/stored-file.ts'
import { composeSegment } from '../../agents/mount/formats/basebackup/incremental-file.ts'
import type { OpenBackup, Repository } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import {
  BLOCK,
  block,
  incremental,
  makeBackup,
  openEmptyInstance,
  SEGMENT_BLOCKS,
} from './incremental-backups.ts'
import { dice } from './reference.ts'

describe('incremental backups of PostgreSQL 17, constructed by the test', function () {
  this.timeout(60_000)
  let scratch: string
  let instance: string
  let spool: Spool
  let repository: Repository

  beforeEach(async () => {
    ;({ scratch, instance, repository, spool } = await openEmptyInstance())
  })
  afterEach(async () => {
    await spool.close()
    await rm(scratch, { recursive: true, force: true })
  })

  const open = async (label: string) => (await repository.instance('shop')).open(label)
  const summaries = async () => (await repository.instance('shop')).backups()

  async function contents(backup: OpenBackup, path: string): Promise<Buffer> {
    const entry = backup.entry(path)
    if (entry === undefined) throw new Error(`there is no ${path}`)
    return entry.file === undefined ? Buffer.alloc(0) : backup.read(entry.file, 0, entry.size + 1)
  }

  const FULL = {
    label: 'full',
    startLsn: '0/2000028',
    files: { 'base/1/100': Buffer.concat([block(1), block(2), block(3), block(4)]) },
  }

  it('shows the files as they were, under their own names', async () => {
    await makeBackup(instance, FULL)
    await makeBackup(instance, {
      label: 'monday',
      startLsn: '0/3000028',
      fromLsn: FULL.startLsn,
      files: {
        'base/1/INCREMENTAL.100': incremental(4, new Map([[1, block(20)]])),
        'base/1/200': block(9),
      },
    })
    await makeBackup(instance, {
      label: 'tuesday',
      startLsn: '0/4000028',
      fromLsn: '0/3000028',
      files: {
        'base/1/INCREMENTAL.100': incremental(3, new Map([[5, block(50)]])),
        'base/1/INCREMENTAL.200': incremental(1, new Map()),
      },
    })
    const monday = await open('monday')
    expect(await contents(monday, 'data/base/1/100')).to.deep.equal(
      Buffer.concat([block(1), block(20), block(3), block(4)]),
    )
    const tuesday = await open('tuesday')
    // Cut to three blocks, then extended to six: what was never written in between is zeros.
    expect(await contents(tuesday, 'data/base/1/100')).to.deep.equal(
      Buffer.concat([block(1), block(20), block(3), block(0), block(0), block(50)]),
    )
    expect(await contents(tuesday, 'data/base/1/200')).to.deep.equal(block(9))
    const paths: string[] = []
    for await (const batch of tuesday.tree()) paths.push(...batch.map(({ path }) => path))
    expect(paths.join()).not.to.include('INCREMENTAL')
    expect(tuesday.summary).to.include({ type: 'incremental', parent: 'monday', systemIdentifier: '77' })
  })

  it('has a backup_label that PostgreSQL starts with', async () => {
    await makeBackup(instance, FULL)
    await makeBackup(instance, { label: 'monday', startLsn: '0/3000028', fromLsn: FULL.startLsn, files: {} })
    const label = (await contents(await open('monday'), 'data/backup_label')).toString()
    expect(label).to.include('START WAL LOCATION: 0/3000028').and.not.to.include('INCREMENTAL')
  })

  it('reads any range of the composed file', async () => {
    const states = fc.array(
      fc.record({
        truncation: fc.nat(12),
        blocks: fc.uniqueArray(fc.nat(15), { maxLength: 8 }),
      }),
      { minLength: 1, maxLength: 3 },
    )
    let round = 0
    await fc.assert(
      fc.asyncProperty(fc.nat(10), states, async (fullBlocks, changes) => {
        round += 1
        const place = join(instance, '..', `round-${round}`)
        let mark = 1
        const next = () => block(mark++ % 250 === 0 ? 251 : mark % 250)
        const files = [Array.from({ length: fullBlocks }, next)]
        await makeBackup(place, {
          label: 'b0',
          startLsn: '0/1000028',
          files: { 'base/1/1': Buffer.concat(files[0] ?? []) },
        })
        const maps: Map<number, Buffer>[] = []
        for (const [index, { truncation, blocks }] of changes.entries()) {
          const map = new Map(blocks.map((n) => [n, next()]))
          maps.push(map)
          await makeBackup(place, {
            label: `b${index + 1}`,
            startLsn: `0/${index + 2}000028`,
            fromLsn: `0/${index + 1}000028`,
            files: { 'base/1/INCREMENTAL.1': incremental(truncation, map) },
          })
        }
        const newest = changes.at(-1)
        const truncation = newest?.truncation ?? 0
        const length = Math.max(truncation, ...(newest?.blocks ?? []).map((n) => n + 1))
        const expected = Buffer.concat(
          Array.from({ length }, (_, n) => {
            const own = maps.at(-1)?.get(n)
            if (own !== undefined || n >= truncation) return own ?? block(0)
            return maps.findLast((map) => map.has(n))?.get(n) ?? files[0]?.[n] ?? block(0)
          }),
        )
        const backup = await (await repository.instance(`round-${round}`)).open(`b${changes.length}`)
        expect((await contents(backup, 'data/base/1/1')).equals(expected)).to.equal(true)
        const entry = backup.entry('data/base/1/1')
        const random = dice(round)
        for (let n = 0; n < 5 && entry?.file !== undefined; n++) {
          const offset = random(length * BLOCK)
          const wanted = random(5 * BLOCK)
          const got = await backup.read(entry.file, offset, wanted)
          expect(got.equals(expected.subarray(offset, offset + wanted))).to.equal(true)
        }
        await rm(place, { recursive: true })
      }),
      { numRuns: 30 },
    )
  })

  it('takes no file outside of databases for an incremental one', async () => {
    await makeBackup(instance, FULL)
    const files = {
      'INCREMENTAL.notes': Buffer.from('mine'),
      'pg_xact/INCREMENTAL.0000': Buffer.from('mine'),
    }
    await makeBackup(instance, { label: 'monday', startLsn: '0/3000028', fromLsn: FULL.startLsn, files })
    const monday = await open('monday')
    for (const path of Object.keys(files)) {
      expect((await contents(monday, `data/${path}`)).toString()).to.equal('mine')
    }
  })

  it('cuts at the end of a segment a length that counts the segments after it, which some servers write', async () => {
    await makeBackup(instance, { ...FULL, files: { 'base/1/100': Buffer.alloc(SEGMENT_BLOCKS * BLOCK, 1) } })
    await makeBackup(instance, {
      label: 'monday',
      startLsn: '0/3000028',
      fromLsn: FULL.startLsn,
      files: { 'base/1/INCREMENTAL.100': incremental(SEGMENT_BLOCKS + 3, new Map([[2, block(20)]])) },
    })
    const expected = Buffer.alloc(SEGMENT_BLOCKS * BLOCK, 1).fill(20, 2 * BLOCK, 3 * BLOCK)
    const found = await contents(await open('monday'), 'data/base/1/100')
    expect(found.equals(expected)).to.equal(true)
  })

  it('can build on what pg_combinebackup made of a chain whose backups are gone', async () => {
    const files = { 'base/1/INCREMENTAL.100': incremental(4, new Map()) }
    const monday = { label: 'monday', startLsn: '0/3000028', fromLsn: FULL.startLsn, files }
    await makeBackup(instance, monday)
    await makeBackup(instance, { label: 'tuesday', startLsn: '0/4000028', fromLsn: '0/3000028', files })
    expect((await summaries()).map(({ unusable }) => unusable)).not.to.include(undefined)
    await makeBackup(instance, { ...FULL, label: 'zusammen', startLsn: '0/3000028' })
    const found = new Map((await summaries()).map((one) => [one.label, one]))
    expect(found.get('monday')?.unusable).to.include('not in this instance')
    expect(found.get('tuesday')).to.include({ parent: 'zusammen' }).and.not.have.property('unusable')
    expect(await contents(await open('tuesday'), 'data/base/1/100')).to.deep.equal(FULL.files['base/1/100'])
  })

  it('reads no header twice, and of a chain of 20 backups nothing but what holds the block', async () => {
    const place = (n: number) => join(scratch, `file-${n}`)
    const stored = (n: number, size: number): StoredFile => ({
      region: { root: scratch, path: place(n), offset: 0, length: size, wholeFile: true },
      ...{ transforms: [], size, description: `file ${n}` },
    })
    const full = Buffer.alloc(40 * BLOCK, 100)
    await writeFile(place(0), full)
    const older: StoredFile[] = []
    for (let n = 19; n > 0; n -= 1) {
      const bytes = incremental(40, new Map([[n, block(n)]]))
      await writeFile(place(n), bytes)
      older.push(stored(n, bytes.length))
    }
    const reads: string[] = []
    const counting: Spool = {
      ...spool,
      read: (file, offset, length) => {
        reads.push(file.description)
        return spool.read(file, offset, length)
      },
    }
    const parts = { bytes: full.length, limit: 40, newest: undefined, older }
    const segment = composeSegment(
      { ...parts, full: { file: stored(0, full.length), bytes: full.length } },
      counting,
      131_072,
    )
    if (!('read' in segment)) throw new Error('it is composed')
    expect(await segment.read(30 * BLOCK, BLOCK)).to.deep.equal(block(100))
    expect(reads.sort()).to.deep.equal([...older.map(({ description }) => description), 'file 0'].sort())
    for (const [at, mark, from] of [
      [31, 100, 'file 0'],
      [1, 1, 'file 1'],
      [19, 19, 'file 19'],
    ] as const) {
      reads.length = 0
      expect(await segment.read(at * BLOCK, BLOCK)).to.deep.equal(block(mark))
      expect(reads).to.deep.equal([from])
    }
  })
})
