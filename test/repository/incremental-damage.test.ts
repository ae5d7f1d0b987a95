/** Chains of incremental backups with something missing, replaced or damaged: an error that says what, and never wrong data. */
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { OpenBackup, Repository } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import type { HowdahError } from '../../messages/errors.ts'
import { openForTest } from './fixture.ts'
import {
  BLOCK,
  block,
  controlFile,
  incremental,
  incrementalFile,
  type MadeBackup,
  makeBackup,
  openEmptyInstance,
  SEGMENT_BLOCKS,
  SYSTEM,
} from './incremental-backups.ts'

const MAGIC = 0xd3ae1f0d
const FILE = 'base/1/INCREMENTAL.100'
const GOOD = incremental(4, new Map([[1, block(20)]]))

const FULL: MadeBackup = {
  label: 'full',
  startLsn: '0/2000028',
  files: { 'base/1/100': Buffer.concat([block(1), block(2), block(3), block(4)]) },
}
const MONDAY: MadeBackup = {
  ...{ label: 'monday', startLsn: '0/3000028', fromLsn: FULL.startLsn },
  files: { [FILE]: GOOD },
}
const TUESDAY: MadeBackup = {
  ...{ label: 'tuesday', startLsn: '0/4000028', fromLsn: MONDAY.startLsn },
  files: { [FILE]: incremental(4, new Map([[2, block(30)]])) },
}

/** Incremental files that PostgreSQL does not write, and what the error says. */
const WRONG: Readonly<Record<string, readonly [bytes: Buffer, says: RegExp]>> = {
  'another magic word': [
    incrementalFile([MAGIC + 1, 1, 4, 1], [block(20)]),
    /does not begin as an incremental file/,
  ],
  'the magic word of another byte order': [
    Buffer.from(GOOD).swap32(),
    /does not begin as an incremental file/,
  ],
  'the length of an empty file': [Buffer.alloc(0), /does not begin as an incremental file/],
  'a header that was cut': [GOOD.subarray(0, 5), /does not begin as an incremental file/],
  'more blocks than a segment': [
    incrementalFile([MAGIC, SEGMENT_BLOCKS + 1, 4], []),
    /17 blocks, and a segment at most 16/,
  ],
  'a block too few': [GOOD.subarray(0, -BLOCK), /has 8192 bytes where 1 blocks take 16384/],
  'a block too many': [Buffer.concat([GOOD, block(1)]), /has 24576 bytes where 1 blocks take 16384/],
  'blocks out of order': [
    incrementalFile([MAGIC, 2, 4, 3, 1], [block(20), block(21)]),
    /its block 1 has the number 1/,
  ],
  'the same block twice': [
    incrementalFile([MAGIC, 2, 4, 3, 3], [block(20), block(21)]),
    /its block 1 has the number 3/,
  ],
  'a block beyond the segment': [
    incrementalFile([MAGIC, 1, 4, SEGMENT_BLOCKS], [block(20)]),
    /its block 0 has the number 16/,
  ],
}

describe('a chain of incremental backups that', function () {
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
  const unusable = async () => {
    const found = await (await repository.instance('shop')).backups()
    return Object.fromEntries(found.map((one) => [one.label, one.unusable]))
  }
  async function failure(work: Promise<unknown>): Promise<HowdahError> {
    const found = await work.then(
      () => undefined,
      (error: HowdahError) => error,
    )
    if (found === undefined) throw new Error('nothing failed')
    return found
  }
  async function read(backup: OpenBackup): Promise<Buffer> {
    const entry = backup.entry('data/base/1/100')
    return backup.read(entry?.file ?? -1, 0, entry?.size ?? 0)
  }

  for (const [what, [bytes, says]] of Object.entries(WRONG)) {
    it(`has a file with ${what} is refused, be it the newest or an older one`, async () => {
      await makeBackup(instance, FULL)
      // Without a manifest nothing else would tell.
      await makeBackup(instance, { ...MONDAY, files: { [FILE]: bytes }, manifest: false })
      await makeBackup(instance, TUESDAY)
      const newest = await failure(open('monday'))
      expect(newest).to.include({ code: 'backup_damaged' })
      expect(newest.message).to.match(says).and.include('INCREMENTAL.100 of backup monday')
      const older = await failure(open('tuesday').then(read))
      expect(older).to.include({ code: 'backup_damaged' })
      expect(older.message).to.match(says).and.include('INCREMENTAL.100 of backup monday')
    })
  }

  it('has changed bytes is refused by the checksum, where the header still is a header', async () => {
    await makeBackup(instance, FULL)
    await makeBackup(instance, { ...MONDAY, files: { [FILE]: incremental(4, new Map()) } })
    await makeBackup(instance, TUESDAY)
    // Two blocks shorter than it was.
    await writeFile(join(instance, 'monday', FILE), incremental(2, new Map()))
    const header = await failure(open('monday'))
    expect(header).to.include({ code: 'backup_damaged' })
    expect(header.message).to.include('checksum').and.include('INCREMENTAL.100')
    await makeBackup(instance, MONDAY)
    await writeFile(join(instance, 'monday', FILE), incremental(4, new Map([[3, block(20)]])))
    const number = await failure(open('tuesday').then(read))
    expect(number).to.include({ code: 'backup_damaged' })
    expect(number.message).to.include('checksum').and.include('INCREMENTAL.100')
  })

  it('has a file that was cut short is refused when it is opened', async () => {
    for (const made of [FULL, MONDAY, TUESDAY]) await makeBackup(instance, made)
    await truncate(join(instance, 'monday', FILE), 9000)
    for (const label of ['monday', 'tuesday']) {
      const error = await failure(open(label))
      expect(error).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include('monday').and.include('9000 bytes')
    }
    await rm(join(instance, 'monday', FILE))
    const error = await failure(open('tuesday'))
    expect(error).to.include({ code: 'backup_damaged' })
    expect(error.message).to.include(`lacks ${FILE}`)
  })

  it('has no full file of a relation is refused', async () => {
    await makeBackup(instance, FULL)
    await makeBackup(instance, { ...MONDAY, files: { 'base/1/INCREMENTAL.999': GOOD } })
    const error = await failure(open('monday'))
    expect(error).to.include({ code: 'backup_damaged' })
    expect(error.message).to.include('data/base/1/999').and.include('backup full')
  })

  it('lacks its parent is listed as unusable', async () => {
    await makeBackup(instance, MONDAY)
    await makeBackup(instance, TUESDAY)
    for (const reason of Object.values(await unusable())) {
      expect(reason).to.include('0/2000028').and.include('not in this instance')
    }
    expect(await failure(open('tuesday'))).to.include({ code: 'backup_unsupported' })
  })

  it('has another backup in the place of its parent is listed as unusable', async () => {
    await makeBackup(instance, { ...FULL, startLsn: '0/2800028' })
    await makeBackup(instance, MONDAY)
    expect((await unusable()).monday)
      .to.include('began at 0/2000028')
      .and.include('not in this instance')
    await makeBackup(instance, { ...FULL, system: 78n })
    expect((await unusable()).monday).to.include('full began there, too, and is of another cluster')
    const error = await failure(open('monday'))
    expect(error).to.include({ code: 'backup_unsupported' })
    expect(error.message).to.include('another cluster')
  })

  it('has a parent whose manifest was changed is listed as unusable', async () => {
    for (const made of [FULL, MONDAY, TUESDAY]) await makeBackup(instance, made)
    const path = join(instance, 'full', 'backup_manifest')
    const text = await readFile(path, 'utf8')
    await writeFile(path, text.replace('"Size":32768', '"Size":32760'))
    const found = await unusable()
    for (const label of ['full', 'monday', 'tuesday']) expect(found[label], label).to.include('own checksum')
    expect(await failure(open('tuesday'))).to.include({ code: 'backup_unsupported' })
  })

  it('begins before the backup it should build on is listed as unusable, also when it is a circle', async () => {
    await makeBackup(instance, { ...MONDAY, fromLsn: TUESDAY.startLsn })
    await makeBackup(instance, TUESDAY)
    const found = await unusable()
    expect(found.monday).to.include('did not begin before it')
    expect(found.tuesday).to.include('did not begin before it')
  })

  describe('Barman keeps and that', () => {
    const IDS = ['20260101T000000', '20260102T000000', '20260103T000000'] as const

    /** Backups of the server `shop`, each listed as building on the one before. */
    async function makeHome(made: readonly MadeBackup[]): Promise<void> {
      await spool.close()
      const home = join(scratch, 'home')
      for (const [index, one] of made.entries()) {
        const id = IDS[index] ?? ''
        const directory = join(home, 'shop', 'base', id)
        await makeBackup(directory, { ...one, label: 'data' })
        const parent = index === 0 ? 'None' : IDS[index - 1]
        await writeFile(
          join(directory, 'backup.info'),
          `status=DONE\nmode=postgres\nversion=170002\nbegin_xlog=${one.startLsn}\nparent_backup_id=${parent}\ntablespaces=None\n`,
        )
      }
      await mkdir(join(home, 'shop', 'wals'))
      const opened = openForTest({ format: 'barman', path: home }, join(scratch, 'spool'))
      repository = opened.repository
      spool = opened.spool
    }

    it('is sound is read as it was', async () => {
      await makeHome([FULL, MONDAY, TUESDAY])
      const expected = Buffer.concat([block(1), block(20), block(30), block(4)])
      expect((await read(await open(IDS[2]))).equals(expected)).to.equal(true)
      expect(await unusable()).to.deep.equal(Object.fromEntries(IDS.map((id) => [id, undefined])))
    })

    it('has another backup in the place of a parent is refused', async () => {
      await makeHome([FULL, { ...MONDAY, startLsn: '0/3800028' }, TUESDAY])
      const error = await failure(open(IDS[2]))
      expect(error).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include('began at 0/3000028').and.include('began at 0/3800028')
    })

    it('has a parent of another cluster is refused', async () => {
      await makeHome([{ ...FULL, system: 78n }, MONDAY])
      const error = await failure(open(IDS[1]))
      expect(error).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include('system identifier 77').and.include('of 78')
    })

    it('begins with an incremental backup, or lists a full one as incremental, is refused', async () => {
      await makeHome([MONDAY, TUESDAY])
      expect((await failure(open(IDS[0]))).message).to.include('only changes of some files')
      expect((await failure(open(IDS[1]))).message).to.include('0/2000028 on timeline 1, which is not there')
      await rm(join(scratch, 'home'), { recursive: true })
      await makeHome([FULL, { ...FULL, startLsn: '0/3000028' }])
      expect((await failure(open(IDS[1]))).message).to.include('is a full one by its backup_label')
    })

    it('lacks or cannot read a backup that others build on lists these as unusable', async () => {
      await makeHome([FULL, MONDAY, TUESDAY])
      const info = (id: string) => join(scratch, 'home/shop/base', id, 'backup.info')
      await writeFile(info(IDS[0]), 'status=FAILED\nerror=no space\n')
      expect((await unusable())[IDS[2]])
        .to.include(`builds on backup ${IDS[0]}`)
        .and.include('no space')
      await rm(join(scratch, 'home/shop/base', IDS[0]), { recursive: true })
      expect((await unusable())[IDS[2]]).to.include(`builds on backup ${IDS[0]}, which is not there`)
    })
  })

  it('is of pages of another size is refused', async () => {
    await makeBackup(instance, FULL)
    const control = controlFile(SYSTEM, 16_384)
    await makeBackup(instance, { ...MONDAY, files: { ...MONDAY.files, 'global/pg_control': control } })
    const error = await failure(open('monday'))
    expect(error).to.include({ code: 'backup_unsupported' })
    expect(error.message).to.include('pages of 16384 bytes').and.include('pg_combinebackup')
  })
})
