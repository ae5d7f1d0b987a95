/** Listing an archive again: only what changed is read, and the result is right. */

import { linkSync } from 'node:fs'
import { readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { type ServedRepositories, serveRepositories } from '../../agents/mount/served-repositories.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import type { InstanceInventory } from '../../messages/values.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import {
  archiveDirectory,
  labelOf,
  makeLargeArchive,
  nameOf,
  SEGMENTS_PER_DIRECTORY,
  segmentPath,
} from './large-archive.ts'

const DIRECTORIES = 8
const BACKUPS = 6
const SEGMENTS = DIRECTORIES * SEGMENTS_PER_DIRECTORY
/** Seconds since the epoch: the kernel notes a reading (relatime) where the last one was before the last change. */
const CHANGED = 1_700_000_000
const LONG_AGO = CHANGED - 1000

describe('listing a repository again', function () {
  this.timeout(60_000)
  let directory: string
  let root: string
  let spool: Spool
  let served: ServedRepositories

  beforeEach(async () => {
    directory = await temporaryDirectory()
    root = join(directory, 'repository')
    makeLargeArchive(root, BACKUPS, SEGMENTS)
    const options = { format: 'pgbackrest', path: root } as const
    const opened = openForTest(options, join(directory, 'spool'))
    spool = opened.spool
    served = serveRepositories('here', [
      { options: { name: 'main', ...options }, repository: opened.repository },
    ])
  })
  afterEach(async () => {
    await spool?.close()
    await rm(directory, { recursive: true, force: true })
  })

  async function list(): Promise<InstanceInventory> {
    const [repository] = await served.inventory({})
    const [instance] = repository?.instances ?? []
    if (instance === undefined) throw new Error('the instance is not listed')
    return instance
  }

  /** As if no directory had been read since it changed. */
  async function forgetReads(): Promise<void> {
    for (const name of await readdir(archiveDirectory(root))) {
      await utimes(join(archiveDirectory(root), name), LONG_AGO, CHANGED)
    }
  }

  /** Directories that were read since. */
  async function directoriesRead(): Promise<string[]> {
    const read: string[] = []
    for (const name of (await readdir(archiveDirectory(root))).sort()) {
      const { atimeMs } = await stat(join(archiveDirectory(root), name))
      if (atimeMs > CHANGED * 1000) read.push(name)
    }
    return read
  }

  it('reads no directory of segments that did not change, and finds the same', async () => {
    await forgetReads()
    const first = await list()
    expect(await directoriesRead()).to.have.length(DIRECTORIES)
    expect(first.backups.map(({ label }) => label)).to.deep.equal(
      Array.from({ length: BACKUPS }, (_, index) => labelOf(index)),
    )
    expect(first.windows).to.have.length(1)
    expect(first.windows?.[0]?.backups).to.have.length(BACKUPS)
    await forgetReads()
    expect(await list()).to.deep.equal(first)
    expect(await directoriesRead()).to.deep.equal([])
  })

  it('reads only the directory in which a segment went missing, and reports the gap', async () => {
    await forgetReads()
    await list()
    await forgetReads()
    const missing = 3 * SEGMENTS_PER_DIRECTORY + 17
    await rm(segmentPath(root, missing))
    const { windows } = await list()
    expect(await directoriesRead()).to.deep.equal([nameOf(missing).slice(0, 16)])
    expect(windows?.map(({ missingWal, backups }) => [missingWal, backups])).to.deep.equal([
      [nameOf(missing), [0, 1, 2].map(labelOf)],
      [undefined, [3, 4, 5].map(labelOf)],
    ])
  })

  it('finds a segment that arrives in a directory while it is listed continuously', async () => {
    const last = SEGMENTS - 1
    await rm(segmentPath(root, last))
    await list()
    for (const _ of [1, 2, 3]) {
      linkSync(segmentPath(root, 0), segmentPath(root, last))
      const there = await (await served.instance('main', 'demo')).wal((await list()).backups[0] as never)
      expect((await there.stat(nameOf(last)))?.identity).to.be.a('string')
      await rm(segmentPath(root, last))
      await list()
      expect(await there.stat(nameOf(last))).to.equal(undefined)
    }
  })
})
