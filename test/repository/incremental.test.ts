/**
 * Incremental backups of PostgreSQL 17. Debian 12 has no PostgreSQL that takes them: the backups here are put together
 * by the test, from the format's description, and what they stand for is worked out by it block by block.
 */
import { createHash } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import fc from 'fast-check'
import type { OpenBackup, Repository } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { openForTest, temporaryDirectory } from './fixture.ts'
import { dice } from './reference.ts'

const BLOCK = 8192
const block = (mark: number) => Buffer.alloc(BLOCK, mark)

/** An incremental file: header, numbers, padding, blocks. */
function incremental(truncation: number, blocks: ReadonlyMap<number, Buffer>): Buffer {
  const numbers = [...blocks.keys()].sort((a, b) => a - b)
  const words = [0xd3ae1f0d, numbers.length, truncation, ...numbers]
  const header = Buffer.alloc(words.length * 4)
  for (const [index, word] of words.entries()) header.writeUInt32LE(word, index * 4)
  const padding = numbers.length === 0 ? 0 : (BLOCK - (header.length % BLOCK)) % BLOCK
  return Buffer.concat([
    header,
    Buffer.alloc(padding),
    ...numbers.map((n) => blocks.get(n) ?? Buffer.alloc(0)),
  ])
}

const control = Buffer.alloc(BLOCK)
control.writeBigUInt64LE(77n)

interface Made {
  readonly label: string
  readonly startLsn: string
  readonly fromLsn?: string
  /** By path below PGDATA. */
  readonly files: Readonly<Record<string, Buffer>>
}

/** A plain backup, with what every backup has. */
async function makeBackup(instance: string, { label, startLsn, fromLsn, files }: Made): Promise<void> {
  const from = fromLsn === undefined ? '' : `INCREMENTAL FROM LSN: ${fromLsn}\nINCREMENTAL FROM TLI: 1\n`
  const all: Record<string, Buffer> = {
    PG_VERSION: Buffer.from('17\n'),
    backup_label: Buffer.from(
      `START WAL LOCATION: ${startLsn} (file 000000010000000000000002)\nSTART TIMELINE: 1\n${from}`,
    ),
    'global/pg_control': control,
    ...files,
  }
  const listed = Object.entries(all).map(([Path, bytes]) => ({
    Path,
    Size: bytes.length,
    'Last-Modified': '2026-01-02 03:04:05 GMT',
    'Checksum-Algorithm': 'SHA256',
    Checksum: createHash('sha256').update(bytes).digest('hex'),
  }))
  const head = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 77,\n"Files": ${JSON.stringify(listed)},\n"WAL-Ranges": [{ "Timeline": 1, "Start-LSN": "${startLsn}", "End-LSN": "0/7000000" }],\n`
  const own = createHash('sha256').update(head).digest('hex')
  const directory = join(instance, label)
  for (const [path, bytes] of [
    ...Object.entries(all),
    ['backup_manifest', Buffer.from(`${head}"Manifest-Checksum": "${own}"}\n`)] as const,
  ]) {
    await mkdir(join(directory, path, '..'), { recursive: true })
    await writeFile(join(directory, path), bytes)
  }
}

describe('incremental backups of PostgreSQL 17, constructed by the test', function () {
  this.timeout(60_000)
  let scratch: string
  let instance: string
  let spool: Spool
  let repository: Repository

  beforeEach(async () => {
    scratch = await temporaryDirectory()
    instance = join(scratch, 'repository', 'shop')
    await mkdir(instance, { recursive: true })
    const opened = openForTest(
      { format: 'basebackup', path: join(scratch, 'repository') },
      join(scratch, 'spool'),
    )
    repository = opened.repository
    spool = opened.spool
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

  it('lists as unusable a backup that builds on a missing one', async () => {
    await makeBackup(instance, { label: 'monday', startLsn: '0/3000028', fromLsn: '0/2000028', files: {} })
    await makeBackup(instance, { label: 'tuesday', startLsn: '0/4000028', fromLsn: '0/3000028', files: {} })
    const found = await summaries()
    expect(found).to.have.length(2)
    for (const { unusable } of found)
      expect(unusable).to.include('0/2000028').and.include('not in this instance')
    const error = await open('tuesday').catch((caught) => caught)
    expect(error).to.include({ code: 'backup_unsupported' })
  })

  it('refuses damaged incremental files, naming them', async () => {
    await makeBackup(instance, FULL)
    const good = incremental(4, new Map([[1, block(20)]]))
    const bad: Record<string, Buffer> = {
      magic: Buffer.concat([Buffer.from([0]), good.subarray(1)]),
      count: Buffer.concat([good.subarray(0, 4), Buffer.alloc(4, 0xff), good.subarray(8)]),
      length: good.subarray(0, -BLOCK),
      short: good.subarray(0, 5),
    }
    for (const [label, bytes] of Object.entries(bad)) {
      await makeBackup(instance, {
        label,
        startLsn: '0/3000028',
        fromLsn: FULL.startLsn,
        files: { 'base/1/INCREMENTAL.100': bytes },
      })
      const error = await open(label).catch((caught) => caught)
      expect(error, label).to.include({ code: 'backup_damaged' })
      expect(error.message).to.include('INCREMENTAL.100')
      await rm(join(instance, label), { recursive: true })
    }
    await makeBackup(instance, {
      label: 'alone',
      startLsn: '0/3000028',
      fromLsn: FULL.startLsn,
      files: { 'base/1/INCREMENTAL.999': good },
    })
    const error = await open('alone').catch((caught) => caught)
    expect(error).to.include({ code: 'backup_damaged' })
    expect(error.message).to.include('data/base/1/999').and.include('backup full')
  })
})
