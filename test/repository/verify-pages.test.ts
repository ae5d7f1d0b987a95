/** Checksums of data pages, with PostgreSQL's own pg_checksums as the judge, and what becomes of a damaged one. */
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { checkPage } from '../../agents/mount/pages/check-page.ts'
import { clusterPages } from '../../agents/mount/pages/cluster-pages.ts'
import { createDamageReports, type Damage } from '../../agents/mount/pages/damage-reports.ts'
import { PAGE_BYTES, pageChecksum } from '../../agents/mount/pages/page-checksum.ts'
import { type DamagedBlock, verifiedBackup } from '../../agents/mount/pages/verified-backup.ts'
import type { OpenBackup } from '../../agents/mount/repository.ts'
import type { Spool } from '../../agents/mount/spool/spool.ts'
import { POSTGRES_BIN, postgresAccount, runAs } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { openForTest, quiet } from './fixture.ts'

const BLOCKS_PER_FILE = 131_072
/** Nothing was written after it. */
const NEVER = { start: 0xffff_ffff_ffff_ffffn, stop: undefined }

describe('checksums of data pages', function () {
  this.timeout(120_000)
  let production: Production
  let database: string
  let backup: OpenBackup
  let spool: Spool

  before(async () => {
    production = await makeProduction({ compress: 'none' })
    await production.sql('VACUUM')
    const label = await production.backup('full')
    const oid = await production.sql(`SELECT oid FROM pg_database WHERE datname = '${production.database}'`)
    database = join(production.dataDirectory, 'base', oid)
    await production.stop()
    const opened = openForTest(
      { format: 'pgbackrest', path: production.path },
      join(production.directory, 'spool'),
    )
    spool = opened.spool
    backup = await (await opened.repository.instance(production.stanza)).open(label)
  })
  after(async () => {
    await spool?.close()
    await production?.remove()
  })

  /** Paths of all files of relations, main forks. */
  async function relations(): Promise<string[]> {
    const names = await readdir(production.dataDirectory, { recursive: true })
    return names
      .filter((name) => /^(base\/\d+|global)\/\d+$/.test(name))
      .map((name) => join(production.dataDirectory, name))
  }

  /** What pg_checksums says of one file: nothing, or block, computed and stored checksum. */
  async function judged(path: string): Promise<string | undefined> {
    const filenode = /(\d+)(?:\.\d+)?$/.exec(path)?.[1] ?? ''
    const said = await runAs(await postgresAccount(), join(POSTGRES_BIN, 'pg_checksums'), [
      ...['--check', '-f', filenode, '-D', production.dataDirectory],
    ]).catch((error: Error) => error.message)
    const [, block, computed, stored] =
      /block (\d+): calculated checksum ([0-9A-F]+) but block contains ([0-9A-F]+)/.exec(said) ?? []
    if (block === undefined) return undefined
    const number = (hex = '') => Number.parseInt(hex, 16)
    return `block ${block}: its checksum is ${number(stored)}, and of what it holds ${number(computed)}`
  }

  /** The same of ours. */
  function found(pages: Buffer, firstBlock = 0): string | undefined {
    for (let at = 0; at < pages.length; at += PAGE_BYTES) {
      const what = checkPage(pages, at, firstBlock + at / PAGE_BYTES, NEVER)
      if (what !== undefined) return `block ${at / PAGE_BYTES}: ${what}`
    }
    return undefined
  }

  async function anyRelation(): Promise<string> {
    const sizes = (await readdir(database)).filter((name) => /^\d+$/.test(name)).sort()
    for (const name of sizes) {
      if ((await readFile(join(database, name))).length >= 8 * PAGE_BYTES) return join(database, name)
    }
    throw new Error('there is no relation of eight blocks')
  }

  /** With the file's bytes changed, and put back. */
  async function damaged(
    path: string,
    change: (bytes: Buffer) => void,
  ): Promise<[ours: unknown, theirs: unknown]> {
    const whole = await readFile(path)
    const bytes = Buffer.from(whole)
    change(bytes)
    await writeFile(path, bytes)
    try {
      return [found(bytes), await judged(path)]
    } finally {
      await writeFile(path, whole)
    }
  }

  it('are valid on every page that PostgreSQL wrote', async () => {
    let pages = 0
    for (const path of await relations()) {
      const bytes = await readFile(path)
      expect(found(bytes), path).to.equal(undefined)
      pages += bytes.length / PAGE_BYTES
    }
    expect(pages).to.be.above(2000)
  })

  it('are what pg_checksums computes of pages with a byte changed', async () => {
    const path = await anyRelation()
    for (const [block, byte, value] of [
      [0, 5000, 1],
      [3, 20, 255],
      [7, 8191, 77],
      [2, 8, 3],
      [1, 0, 0x80],
    ] as const) {
      const [ours, theirs] = await damaged(path, (bytes) => {
        const at = block * PAGE_BYTES + byte
        bytes[at] = (bytes[at] ?? 0) ^ value
      })
      expect(theirs).to.be.a('string')
      expect(ours).to.equal(theirs)
    }
  })

  it('are of a block number that counts over all files of a relation', async () => {
    const path = await anyRelation()
    const second = `${path}.1`
    const page = Buffer.from((await readFile(path)).subarray(0, PAGE_BYTES))
    page.writeUInt16LE(pageChecksum(page, 0, BLOCKS_PER_FILE), 8)
    await cp(path, second)
    try {
      await writeFile(second, page)
      expect(await judged(path)).to.equal(undefined)
      expect(found(page, BLOCKS_PER_FILE)).to.equal(undefined)
      expect(found(page)).to.be.a('string')
    } finally {
      await rm(second)
    }
  })

  it('are not required of pages that were never written, nor of those that replay restores', () => {
    const page = Buffer.alloc(PAGE_BYTES)
    const within = { start: 100n, stop: 200n }
    expect(checkPage(page, 0, 0, within)).to.equal(undefined)
    page[4000] = 1
    expect(checkPage(page, 0, 0, within)).to.equal('it has no contents by its header, and is not empty')
    page.writeUInt16LE(8192, 14)
    const withLsn = (lsn: number) => {
      page.writeUInt32LE(lsn, 4)
      return checkPage(page, 0, 0, within)
    }
    expect(withLsn(99)).to.match(/^its checksum is 0/)
    expect(withLsn(100)).to.equal(undefined)
    expect(withLsn(200)).to.equal(undefined)
    expect(withLsn(201)).to.match(/^its checksum is 0/)
  })

  it('are verified when pg_control says that there are some, and blocks have the default size', async () => {
    const control = await readFile(join(production.dataDirectory, 'global/pg_control'))
    expect(clusterPages(control)).to.deep.equal({ blocksPerFile: BLOCKS_PER_FILE })
    const account = await postgresAccount()
    await runAs(account, join(POSTGRES_BIN, 'pg_checksums'), ['--disable', '-D', production.dataDirectory])
    const without = await readFile(join(production.dataDirectory, 'global/pg_control'))
    expect(clusterPages(without)).to.equal(undefined)
    expect(clusterPages(Buffer.alloc(8192))).to.equal(undefined)
    await writeFile(join(production.dataDirectory, 'global/pg_control'), control)
  })

  describe('of a backup', () => {
    interface Served {
      readonly path: string
      readonly file: number
      readonly size: number
    }

    async function largest(pattern: RegExp): Promise<Served> {
      const found: Served[] = []
      for await (const entries of backup.tree()) {
        for (const { path, file, size } of entries) {
          if (file !== undefined && pattern.test(path)) found.push({ path, file, size })
        }
      }
      const [first] = found.sort((a, b) => b.size - a.size)
      if (first === undefined) throw new Error(`nothing in the backup is like ${pattern}`)
      return first
    }

    /** The backup, with a byte of some file another one. */
    function damagedBackup({ file }: Served, position: number): OpenBackup {
      return {
        ...backup,
        async read(number, offset, length, signal) {
          const bytes = Buffer.from(await backup.read(number, offset, length, signal))
          const at = position - offset
          if (number === file && at >= 0 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ 1
          return bytes
        },
      }
    }

    it('report nothing for an undamaged one, whatever is read', async () => {
      const reported: DamagedBlock[] = []
      const verified = verifiedBackup(backup, (damage) => reported.push(damage))
      for await (const entries of backup.tree()) {
        for (const { file, size } of entries) {
          if (file !== undefined) await verified.read(file, 0, size)
        }
      }
      expect(reported).to.deep.equal([])
    })

    for (const [where, pattern] of [
      ['a database', /^data\/base\/\d+\/\d+$/],
      ['global', /^data\/global\/\d+$/],
      ['a tablespace', /^tblspc\/\d+\/.*\/\d+$/],
    ] as const) {
      it(`report file and block of damage in ${where}, however it is read, and its bytes are served`, async () => {
        const file = await largest(pattern)
        const block = Math.floor(file.size / PAGE_BYTES) - 1
        const position = block * PAGE_BYTES + 4321
        const reported: DamagedBlock[] = []
        const source = damagedBackup(file, position)
        const verified = verifiedBackup(source, (damage) => reported.push(damage))
        for (const [offset, length] of [
          [0, file.size],
          [position - 10, 20],
          [block * PAGE_BYTES + 8000, 10],
        ] as const) {
          const bytes = await verified.read(file.file, offset, length)
          expect(bytes.equals(await source.read(file.file, offset, length))).to.equal(true)
          expect(reported.splice(0).map(({ file: path, block: number }) => [path, number])).to.deep.equal([
            [file.path, block],
          ])
        }
        const heard: number[][] = []
        const hearNoMore = verified.onDamagedBlock?.((...damaged) => heard.push(damaged))
        const range = { file: file.file, offset: 0, length: file.size }
        for await (const { data } of verified.readMany([range])) expect(data.length).to.be.above(0)
        hearNoMore?.()
        await verified.read(file.file, position, 1)
        expect(heard).to.deep.equal([[file.file, block]])
        expect(reported.splice(1)).to.have.length(1)
        expect(reported).to.have.length(1)
        if (block > 0) await verified.read(file.file, 0, block * PAGE_BYTES)
        expect(reported).to.have.length(1)
      })
    }

    it('are not required of unlogged relations, which are not in the WAL', async () => {
      const file = await largest(/^data\/base\/\d+\/\d+$/)
      const reported: DamagedBlock[] = []
      const source: OpenBackup = {
        ...damagedBackup(file, 4321),
        entry: (path) => backup.entry(path === `${file.path}_init` ? file.path : path),
      }
      await verifiedBackup(source, (damage) => reported.push(damage)).read(file.file, 0, PAGE_BYTES)
      expect(reported).to.deep.equal([])
    })
  })

  describe('that are wrong', () => {
    const where = { repository: 'main', instance: 'shop', backup: 'monday' }
    const what = 'its checksum is 1, and of what it holds 2'

    it('are reported once for each block of each backup, even when the event could not be sent', async () => {
      const events: Damage[] = []
      const reports = createDamageReports(async (damage) => {
        events.push(damage)
        throw new Error('the broker is away')
      }, quiet)
      for (const block of [3, 4, 3, 4]) reports.of(where)({ file: 'data/base/1/2', block, what })
      reports.of({ ...where, backup: 'tuesday' })({ file: 'data/base/1/2', block: 3, what })
      expect(events.map(({ backup: label, block }) => [label, block])).to.deep.equal([
        ['monday', 3],
        ['monday', 4],
        ['tuesday', 3],
      ])
      expect(events[0]).to.deep.equal({ ...where, file: 'data/base/1/2', block: 3, what })
    })

    it('cause a bounded number of events when all of a backup is damaged', () => {
      let events = 0
      const report = createDamageReports(async () => {
        events += 1
      }, quiet).of(where)
      for (let block = 0; block < 100_000; block += 1) report({ file: 'data/base/1/2', block, what })
      expect(events).to.equal(1000)
    })
  })
})
