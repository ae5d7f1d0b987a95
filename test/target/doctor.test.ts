/** What the doctor finds of fetched blocks and write caches that were damaged on purpose, in use and not. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { expect } from 'chai'
import { pino } from 'pino'
import { verifyCaches } from '../../agents/target/doctor/doctor.ts'
import { BLOCK } from '../../agents/target/filesystem/contents/block-map.ts'
import type { MountProcess } from '../../agents/target/mount-process/agent/mount-process.ts'
import type { DoctorItem } from '../../messages/definitions.ts'
import { pattern } from '../filesystem/support/memory-source.ts'
import { makeScratch, type Scratch, shell, startMount } from '../filesystem/support/mounted.ts'

const OWNER = { uid: 0, gid: 0 }
const BLOCKS = 100

describe('The doctor of a target', function () {
  this.timeout(60_000)
  let scratch: Scratch
  let mount: MountProcess
  let store: string
  let changed: string

  /** A mounted session in `cache`, with fetched blocks and changes. */
  beforeEach(async () => {
    scratch = await makeScratch(OWNER)
    writeFileSync(`${scratch.base}/table`, pattern(BLOCKS * BLOCK))
    mount = await start()
    await shell('cat table > /dev/null; printf changed > new; sync new .', scratch.data)
    await mount.stop()
    mount = await start()
    const stores = `${scratch.directory}/fetched`
    store = `${stores}/${readdirSync(stores).find((name) => /^[0-9a-f]{40}$/.test(name))}`
    changed = `${scratch.cachePath}/files/${readdirSync(`${scratch.cachePath}/files`)[0]}`
  })
  afterEach(() => scratch.remove())

  const start = () =>
    startMount(scratch, scratch.base, OWNER, {
      backup: { repository: 'r', instance: 'i', label: 'l' },
      fetched: { directory: `${scratch.directory}/fetched`, budgetBytes: 1024 ** 3 },
    })
  async function found(timeLimitMs = 60_000): Promise<{ cache: DoctorItem; blocks: DoctorItem | undefined }> {
    const items = await verifyCaches({
      cacheRoot: scratch.directory,
      timeLimitMs,
      logger: pino({ level: 'silent' }),
    })
    const [cache] = items.filter(({ kind }) => kind === 'write-cache')
    const [blocks, ...others] = items.filter(({ kind }) => kind === 'fetched-store')
    expect(others).to.eql([])
    if (cache === undefined) throw new Error('the write cache was not found')
    return { cache, blocks }
  }
  function overwrite(path: string, position: number): void {
    const fd = openSync(path, 'r+')
    writeSync(fd, 'another', position)
    closeSync(fd)
  }

  it('finds sound stores and caches sound, mounted or not, and reports the bytes verified', async () => {
    for (const round of ['mounted', 'kept']) {
      const { cache, blocks } = await found()
      const about = { verdict: 'sound', problems: [] }
      expect(cache, round).to.deep.include({ ...about, name: 'cache', bytes: BLOCK, checkedBytes: BLOCK })
      const bytes = BLOCKS * BLOCK
      expect(blocks, round).to.deep.include({ ...about, bytes, checkedBytes: bytes, sessions: ['cache'] })
      if (round === 'mounted') await mount.stop()
    }
    expect((await found(-1)).blocks).to.include({ verdict: 'sound', bytes: BLOCKS * BLOCK, checkedBytes: 0 })
  })

  it('drops corrupt blocks from a store in use, whose session reads correct data', async () => {
    overwrite(`${store}/blocks.data`, 7 * BLOCK + 100)
    const { blocks } = await found()
    expect(blocks).to.include({ verdict: 'mended' })
    expect(blocks?.problems[0]).to.contain('corrupt blocks: 1;')
    await shell(`cmp table ${scratch.base}/table`, scratch.data)
    await mount.stop()
    // What was fetched again is held again.
    expect((await found()).blocks).to.include({ verdict: 'sound', bytes: BLOCKS * BLOCK })
  })

  it('discards an inconsistent store, but never while a session uses it', async () => {
    overwrite(`${store}/blocks.data`, 0)
    const { blocks } = await found()
    expect(blocks).to.include({ verdict: 'damaged' })
    expect(existsSync(store)).to.equal(true)
    await shell(`cmp table ${scratch.base}/table`, scratch.data)
    await mount.stop()
    expect((await found()).blocks).to.include({ verdict: 'discarded' })
    expect(existsSync(store)).to.equal(false)
    expect((await found()).blocks).to.equal(undefined)
  })

  it('reports what is missing of a write cache, mounted or not, and does not modify it', async () => {
    renameSync(changed, `${changed}.away`)
    expect((await found()).cache).to.include({ verdict: 'damaged' })
    await mount.stop()
    const { cache } = await found()
    expect([cache.verdict, cache.problems.length]).to.eql(['damaged', 1])
    expect(cache.problems[0]).to.contain(`${changed}, which holds 1 changed blocks, is gone`)
    renameSync(`${changed}.away`, changed)
    expect((await found()).cache.verdict).to.equal('sound')
    truncateSync(changed, 3)
    expect((await found()).cache.problems[0]).to.contain('ends at byte 3, but has changes up to byte 7')
  })

  it('reports a journal that is damaged, of another session, or missing', async () => {
    await mount.stop()
    const journal = `${scratch.cachePath}/journal.sqlite`
    mkdirSync(`${scratch.cachePath}/conf`)
    writeFileSync(`${scratch.cachePath}/conf/session.json`, JSON.stringify(SESSION))
    expect((await found()).cache.verdict).to.equal('sound')
    renameSync(journal, `${journal}.away`)
    expect((await found()).cache.problems[0]).to.contain('is gone')
    writeFileSync(journal, 'no database at all'.repeat(500))
    expect((await found()).cache.verdict).to.equal('damaged')
  })
})

/** As it is kept in a write cache. */
const SESSION = {
  ...{ session: 'cache', mountPoint: '/mnt', cachePath: '/cache', binaries: '/', version: '15', port: 5433 },
  user: { name: 'root', uid: 0, gid: 0 },
  recoverTo: { type: 'latest' },
  dataPlane: { host: 'h', port: 1, ticket: 't', mountAgent: 'm' },
  neededWal: {},
  recovered: true,
}
