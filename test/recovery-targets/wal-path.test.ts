/** Directories of pg_basebackup beside an archive: nothing old is taken for the latest, whatever happened to either. */
import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { createArchiveKnowledge } from '../../agents/mount/recovery/instance-archive.ts'
import { instanceWindows } from '../../agents/mount/recovery/windows.ts'
import type { RepositoryOptions } from '../../agents/mount/repository.ts'
import type { HowdahError } from '../../messages/errors.ts'
import type { BackupSummary, RecoverTo } from '../../messages/values.ts'
import { temporaryDirectory } from '../repository/fixture.ts'
import { makeProduction, type Production } from '../support/production.ts'
import { type Planner, planner } from './history.ts'

const run = promisify(execFile)
const SEGMENT = /^[0-9A-F]{24}$/

describe('directories of pg_basebackup beside an archive', function () {
  this.timeout(120_000)
  let production: Production
  let scratch: string
  let made: string
  /** What archive_command wrote: the WAL of before, between and after the backups. */
  let archived: string
  /** A time between the two backups. */
  let between: string

  before(async () => {
    production = await makeProduction({ tablespace: false, settings: { timezone: 'Europe/Berlin' } })
    scratch = await temporaryDirectory()
    made = join(production.directory, 'made')
    archived = join(production.directory, 'wal')
    await run('install', ['-d', '-o', production.user, '-m', '0755', archived])
    const { sql } = production
    await sql(`alter system set archive_command = 'cp %p ${archived}/%f'`)
    await sql(`alter system set log_timezone = 'Europe/Berlin'`)
    await sql('select pg_reload_conf()')
    await production.basebackup(join(made, '1st'))
    await production.writeNotes(1, 'between')
    await sql(`select pg_create_restore_point('between')`)
    between = await sql(
      `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
    )
    await production.writeNotes(1, 'after between')
    await production.basebackup(join(made, '2nd'))
    await production.writeNotes(1, 'last')
    await production.switchWal()
  })
  after(async () => {
    await production?.remove()
    await rm(scratch, { recursive: true, force: true })
  })

  let root: string
  let walPath: string
  let planned: Planner
  let count = 0

  /** Copies of the backups, the older one copied last, with times of now; and of the archive. */
  beforeEach(async () => {
    count += 1
    const place = join(scratch, String(count))
    root = join(place, 'repository')
    walPath = join(place, 'wal')
    for (const label of ['2nd', '1st']) {
      await cp(join(made, label), join(root, 'main', label), { recursive: true })
    }
    await cp(archived, walPath, { recursive: true })
    await use()
  })
  afterEach(async () => {
    await planned.spool.close()
    await rm(join(root, '..'), { recursive: true, force: true })
  })

  async function use(options: Partial<RepositoryOptions> = { walPath }): Promise<void> {
    await planned?.spool.close()
    const all = { format: 'basebackup', path: root, ...options } as const
    planned = await planner(all, 'main', join(root, '..', 'spool'))
  }
  const backups = (): Promise<BackupSummary[]> => planned.instance.backups()
  const messages = async (recoverTo: RecoverTo = { type: 'latest' }, backup?: string): Promise<string[]> =>
    (await planned.plan(recoverTo, backup)).warnings.map(({ message }) => message)
  const refused = async (recoverTo: RecoverTo = { type: 'latest' }): Promise<HowdahError> =>
    planned.plan(recoverTo).then(
      ({ backup }) => expect.fail(`it planned ${backup.label}`),
      (error) => error,
    )
  const segments = async () => (await readdir(walPath)).filter((name) => SEGMENT.test(name)).sort()

  it('are in the order of their WAL, with times from inside, whenever they were copied', async () => {
    const long = new Date('2001-01-01T00:00:00Z')
    await utimes(join(root, 'main/2nd/backup_manifest'), long, long)
    const [first, second] = await backups()
    expect([first?.label, second?.label]).to.deep.equal(['1st', '2nd'])
    const at = Date.parse(between)
    expect(Date.parse(first?.stoppedAt ?? '')).to.be.within(at - 60_000, at)
    expect(Date.parse(second?.stoppedAt ?? '')).to.be.within(at - 1000, Date.now())
    const plan = await planned.plan({ type: 'latest' })
    expect(plan.backup.label).to.equal('2nd')
    expect(plan.warnings).to.deep.equal([])
    expect(plan.reaches?.lastCommit).to.match(/^20.*Z$/)
  })

  it('begin recovery to a time with the newest one that was consistent before it', async () => {
    const plan = await planned.plan({ type: 'time', value: between })
    expect(plan.backup.label).to.equal('1st')
    expect(Date.parse(plan.reaches?.lastCommit ?? '')).to.be.at.most(Date.parse(between))
    expect((await planned.plan({ type: 'name', value: 'between' })).backup.label).to.equal('1st')
  })

  it('find their end in the WAL where no manifest has it', async () => {
    const stops = (await backups()).map(({ stopLsn }) => stopLsn)
    for (const label of ['1st', '2nd']) await rm(join(root, 'main', label, 'backup_manifest'))
    await use()
    for (const name of await readdir(walPath)) if (name.endsWith('.backup')) await rm(join(walPath, name))
    const found = await backups()
    expect(found.map(({ stopLsn }) => stopLsn)).to.deep.equal(stops)
    expect(found.map(({ label }) => label)).to.deep.equal(['1st', '2nd'])
    expect((await planned.plan({ type: 'time', value: between })).backup.label).to.equal('1st')
  })

  it('are refused without their archive, which may be mounted later', async () => {
    const opened = await planned.instance.open('2nd')
    await rename(walPath, `${walPath}.away`)
    const later = await opened.walSize('0000000100000000000000FF').catch((caught: HowdahError) => caught)
    expect(later).to.include({ code: 'repository_unavailable' })
    const error = await refused()
    expect(error).to.include({ code: 'repository_unavailable', retryable: false })
    expect(error.message).to.include(walPath).and.include('walPath')
    await rename(`${walPath}.away`, walPath)
    expect(await messages()).to.deep.equal([])
  })

  it('report that the archive is empty, as a mount point is', async () => {
    for (const name of await readdir(walPath)) await rm(join(walPath, name))
    const reported = await messages()
    expect(reported[0]).to.include(walPath).and.include('empty')
    expect(reported[1]).to.include('holds nothing of after the end of backup 2nd')
    const { remarks } = await instanceWindows(planned.instance, await backups(), createArchiveKnowledge())
    expect(remarks).to.deep.equal([reported[0]])
  })

  it('report that the archive ends before the backup does', async () => {
    const [first] = await backups()
    for (const name of await segments()) if (name > (first?.stopWal ?? '')) await rm(join(walPath, name))
    expect((await messages())[0]).to.include('holds nothing of after the end of backup 2nd')
  })

  for (const [what, change] of [
    ['.xz', async (path: string) => rename(path, `${path}.xz`)],
    ['.lzo', async (path: string) => rename(path, `${path}.lzo`)],
    [
      'a directory of the day',
      async (path: string) => {
        const directory = join(path, '../2026-11-30')
        await mkdir(directory, { recursive: true })
        await rename(path, join(directory, path.slice(-24)))
      },
    ],
  ] as const) {
    it(`are not recovered to an old state when what comes after is in ${what}`, async () => {
      const [, second] = await backups()
      const later = (await segments()).filter((name) => name > (second?.stopWal ?? ''))
      expect(later).to.not.be.empty
      for (const name of later) await change(join(walPath, name))
      const error = await refused()
      expect(error).to.include({ code: 'wal_missing' })
      expect(error.message).to.include(later[0]).and.include('cannot be reached from backup 2nd')
      expect((await messages({ type: 'lsn', value: second?.stopLsn ?? '' })).join()).to.include(
        'cannot be read',
      )
    })
  }

  it('report names that are not understood', async () => {
    for (const name of await segments()) await rename(join(walPath, name), join(walPath, `shop-${name}`))
    expect((await messages())[0])
      .to.include('names are not understood')
      .and.include('shop-0000')
    for (const name of await readdir(walPath)) await rm(join(walPath, name))
    await writeFile(join(walPath, 'README'), 'moved')
    expect((await messages())[0])
      .to.include('has no WAL')
      .and.include('README')
  })

  it('find WAL in directories that are named as segments, and in one of their own', async () => {
    for (const name of await segments()) {
      await mkdir(join(walPath, name.slice(0, 16)), { recursive: true })
      await rename(join(walPath, name), join(walPath, name.slice(0, 16), name))
    }
    const there = await planned.plan({ type: 'latest' })
    expect(there.warnings).to.deep.equal([])
    const opened = await planned.instance.open('2nd')
    const [any = ''] = await readdir(join(walPath, '0000000100000000'))
    expect((await opened.walRead(any, 0, 100)).equals((await readFile(join(archived, any))).subarray(0, 100)))
      .to.be.true
    await rename(join(walPath, '0000000100000000'), join(walPath, 'main'))
    expect((await planned.plan({ type: 'latest' })).reaches).to.deep.equal(there.reaches)
  })

  it('are refused with WAL of another cluster', async () => {
    for (const name of await segments()) {
      const bytes = await readFile(join(walPath, name))
      bytes[24] = (bytes[24] ?? 0) ^ 1
      await writeFile(join(walPath, name), bytes)
    }
    expect((await refused()).message).to.include('of another cluster')
  })

  it('use the WAL that they contain', async () => {
    await use({})
    expect((await messages({ type: 'immediate' })).length).to.equal(0)
    const plan = await planned.plan({ type: 'latest' })
    expect(plan.backup.label).to.equal('2nd')
    expect(plan.warnings[0]?.message).to.include('holds nothing of after the end of backup 2nd')
  })
})
