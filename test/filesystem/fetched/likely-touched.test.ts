/** What a start of PostgreSQL is likely to touch, where nothing is known of the instance. */
import { mkdtempSync, rmSync, utimesSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { expect } from 'chai'
import {
  laterDatabases,
  newestTouched,
  withOtherDatabases,
} from '../../../agents/target/filesystem/fetched/likely-touched.ts'
import { saveTouched, type TouchedRecord } from '../../../agents/target/filesystem/fetched/touched-record.ts'
import { buildBaseTree } from '../../../agents/target/filesystem/tree/base-tree.ts'
import { memorySource } from '../support/memory-source.ts'

const record: TouchedRecord = {
  version: 1,
  paths: ['data/global/1260', 'data/base/5/1259', 'data/base/16384/16408', 'data/base/5/pg_filenode.map'],
  ranges: [0, 0, 1, 1, 0, 14, 2, 6, 1, 3, 0, 1, 1, 20, 2],
}

describe('what a publish is likely to touch', () => {
  let root: string

  beforeEach(() => {
    root = mkdtempSync('/var/tmp/howdah-likely-')
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  it('is what the publish before it touched, of whatever instance that was', async () => {
    const older: TouchedRecord = { version: 1, paths: ['data/old'], ranges: [0, 0, 1] }
    await saveTouched(root, 'main', 'older', older)
    for (const name of await readdir(root)) utimesSync(`${root}/${name}`, 1000, 1000)
    await saveTouched(root, 'other', 'demo', record)
    expect(await newestTouched(root)).to.deep.equal(record)
  })

  it('is not known on a target that published nothing yet', async () => {
    expect(await newestTouched(root)).to.equal(undefined)
    expect(await newestTouched(`${root}/none`)).to.equal(undefined)
  })

  it('is after that the system catalogs of the databases that are left', () => {
    const { paths, ranges } = withOtherDatabases(record, ['16384', '16999'])
    expect(paths.slice(0, 4)).to.deep.equal(record.paths)
    expect(paths.slice(4)).to.deep.equal([
      'data/base/16384/1259',
      'data/base/16384/pg_filenode.map',
      'data/base/16999/1259',
      'data/base/16999/pg_filenode.map',
    ])
    expect(ranges.slice(0, 15)).to.deep.equal(record.ranges)
    expect(ranges.slice(15)).to.deep.equal([
      ...[4, 0, 14, 5, 0, 1, 4, 20, 2],
      ...[6, 0, 14, 7, 0, 1, 6, 20, 2],
    ])
  })

  it('has the databases that were made after the cluster', async () => {
    const content = Buffer.alloc(1)
    const files = Object.fromEntries(
      ['1', '5', '99999', '16384', 'pgsql_tmp'].map((name) => [`data/base/${name}/PG_VERSION`, content]),
    )
    expect(laterDatabases(await buildBaseTree(memorySource(files).tree()))).to.deep.equal(['16384', '99999'])
    expect(laterDatabases(await buildBaseTree(memorySource({}).tree()))).to.deep.equal([])
  })
})
