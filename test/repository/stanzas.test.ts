/** A pgBackRest repository of several stanzas, one of them of a cluster that was upgraded, and rolled back again. */
import { createHash } from 'node:crypto'
import { cp, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Instance } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { hasSegment } from '../../agents/mount/wal-listing.ts'
import type { HowdahError } from '../../messages/errors.ts'
import { makeBlockRepository } from './block-repository.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import { infoFile } from './large-repository.ts'
import { dice } from './reference.ts'

const SEGMENT = '000000010000000000000003'
const AFTER_ROLL_BACK = '000000010000000000000004'

describe('a pgBackRest repository of several stanzas', () => {
  let scratch: string
  let spool: Spool
  let labels: readonly string[]
  let instance: (name: string) => Promise<Instance>
  let instances: () => Promise<string[]>

  before(async () => {
    scratch = await temporaryDirectory()
    const root = join(scratch, 'repo')
    const made = await makeBlockRepository(root, { compression: 'none', encrypted: false }, dice(2))
    labels = made.labels
    await cp(join(root, 'backup/demo'), join(root, 'backup/other'), { recursive: true })
    await cp(join(root, 'archive/demo'), join(root, 'archive/other'), { recursive: true })
    await upgrade(root)
    const opened = openForTest({ format: 'pgbackrest', path: root }, join(scratch, 'spool'))
    spool = opened.spool
    instances = () => opened.repository.instances()
    instance = (name) => opened.repository.instance(name)
  })
  after(async () => {
    await spool?.close()
    await rm(scratch, { recursive: true, force: true })
  })

  /** The last backup of `demo` becomes one of version 16, and what pgBackRest keeps beside backups is there. */
  async function upgrade(root: string): Promise<void> {
    const backups = labels.map((label, index): [string, unknown] => [
      label,
      {
        'backup-archive-start': SEGMENT,
        'backup-archive-stop': SEGMENT,
        'backup-timestamp-start': 1_700_000_000 + index,
        'backup-timestamp-stop': 1_700_000_001 + index,
        'backup-type': index === 0 ? 'full' : 'incr',
        'db-id': index === 2 ? 2 : 1,
      },
    ])
    const info = infoFile({
      'backup:current': backups,
      'db:history': [
        ['1', { 'db-system-id': 77, 'db-version': '15' }],
        ['2', { 'db-system-id': 88, 'db-version': '16' }],
      ],
    })
    await writeFile(join(root, 'backup/demo/backup.info'), info)
    await mkdir(join(root, 'backup/demo/backup.history/2026'), { recursive: true })
    await symlink(labels[2] ?? '', join(root, 'backup/demo/latest'))
    const archive = infoFile({
      'db:history': [
        ['1', { 'db-id': 77, 'db-version': '15' }],
        ['2', { 'db-id': 88, 'db-version': '16' }],
        ['3', { 'db-id': 77, 'db-version': '15' }],
      ],
    })
    await writeFile(join(root, 'archive/demo/archive.info'), archive)
    for (const [name, segment, bytes] of [
      ['15-1', SEGMENT, 15],
      ['16-2', SEGMENT, 16],
      ['15-3', AFTER_ROLL_BACK, 17],
    ] as const) {
      const directory = join(root, 'archive/demo', name, segment.slice(0, 16))
      await mkdir(directory, { recursive: true })
      const contents = Buffer.alloc(bytes)
      const sha1 = createHash('sha1').update(contents).digest('hex')
      await writeFile(join(directory, `${segment}-${sha1}`), contents)
    }
    await writeFile(join(root, 'archive/demo/15-1/00000002.history'), 'of the first')
  }

  it('lists each with its own backups', async () => {
    expect(await instances()).to.deep.equal(['demo', 'other'])
    for (const name of ['demo', 'other']) {
      const backups = await (await instance(name)).backups()
      expect(backups.map(({ label, unusable }) => unusable ?? label)).to.deep.equal(labels)
    }
    const versions = (await (await instance('demo')).backups()).map((backup) => backup.postgresVersion)
    expect(versions).to.deep.equal(['15', '15', '16'])
  })

  it('reads for each backup the WAL of its own cluster', async () => {
    const demo = await instance('demo')
    const sizes = await Promise.all(labels.map(async (label) => (await demo.open(label)).walSize(SEGMENT)))
    expect(sizes).to.deep.equal([15, 15, 16])
    expect(await (await (await instance('other')).open(labels[0] ?? '')).walSize(SEGMENT)).to.equal(undefined)
  })

  it('finds WAL of a cluster that was rolled back in each of its directories', async () => {
    const demo = await instance('demo')
    const [first] = await demo.backups()
    const opened = await demo.open(labels[0] ?? '')
    expect(await opened.walSize(SEGMENT)).to.equal(15)
    expect(await opened.walSize(AFTER_ROLL_BACK)).to.equal(17)
    expect(await opened.walSize('00000002.history')).to.equal(12)
    if (first === undefined) return expect.fail('there is no backup')
    const listing = await (await demo.wal(first)).list()
    expect([SEGMENT, AFTER_ROLL_BACK].map((name) => hasSegment(listing, name))).to.deep.equal([true, true])
    expect(listing.histories).to.deep.equal([2])
    expect(await (await demo.open(labels[2] ?? '')).walSize(AFTER_ROLL_BACK)).to.equal(undefined)
  })

  it('does not take an archive that is unavailable for one that ends', async () => {
    const opened = await (await instance('demo')).open(labels[0] ?? '')
    const missing = '0000000100000000000000FF'
    expect(await opened.walSize(missing)).to.equal(undefined)
    const archive = join(scratch, 'repo/archive')
    await rename(archive, `${archive}.away`)
    const error = await opened.walSize(missing).catch((caught: HowdahError) => caught)
    await rename(`${archive}.away`, archive)
    expect(error).to.include({ code: 'repository_unavailable' })
  })
})
