import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect } from 'chai'
import type { EventBody } from '../../messages/definitions.ts'
import type { SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { makeProduction, type Production } from '../support/production.ts'

const MIB = 1024 * 1024
/** Rows that take 4 MiB: four fill a page. */
const ROWS = 2048
const ROW_BYTES = 2048
type Warning = EventBody<'session.warning'>

describe('a write cache that fills up', function () {
  this.timeout(180_000)
  const quota = 64 * MIB
  let production: Production
  let fleet: Fleet
  let session: SessionView
  let started: string
  const warnings: Warning[] = []
  let failed = false

  before(async () => {
    production = await makeProduction({ compress: 'gz' })
    await production.backup('full')
    await production.switchWal()
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
      target: { cache: { quotaBytes: quota, reserveBytes: '16 MiB' } },
    })
    await fleet.bus.watchEvents('session.*.warning', ({ type, body }) => {
      if (type === 'session.warning') warnings.push(body)
    })
    session = await fleet.publish('--repository', 'main', '--instance', production.stanza)
    started = await sql('SELECT pg_postmaster_start_time()')
    await sql(`CREATE TABLE spare AS SELECT repeat($$z$$, 1900) FROM generate_series(1, ${ROWS})`)
    await sql('CREATE TABLE filler (n int, t text)')
    await sql('ALTER TABLE filler ALTER t SET STORAGE PLAIN')
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    await fleet?.remove(failed)
    await production?.remove()
  })

  const sql = (text: string): Promise<string> => fleet.sql(session, text, production.database)

  const filling = (count: number): string =>
    `INSERT INTO filler SELECT n, repeat($$x$$, 1900) FROM generate_series(1, ${count}) AS n;`

  /** Commits some rows; 4 MiB where it is not said. */
  const fill = (count = ROWS): Promise<string> => sql(filling(count))

  /** The error with which PostgreSQL refuses, with its SQLSTATE. */
  async function refusal(attempt: string): Promise<string> {
    return sql(`\\set VERBOSITY verbose\n${attempt}`).then(
      () => '',
      (error: Error) => error.message,
    )
  }

  async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
    const deadline = Date.now() + 60_000
    for (;;) {
      const found = await look()
      if (found !== undefined) return found
      if (Date.now() > deadline) throw new Error(`not so after 60 s: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  const warned = (level: Warning['level']): Promise<Warning> =>
    until(`a warning: ${level}`, () => warnings.find((one) => one.about === 'quota' && one.level === level))

  const changedBytes = async (): Promise<number> => (await fleet.show(session.id)).usage?.changedBytes ?? 0

  const count = async (): Promise<number> => Number(await sql('SELECT count(*) FROM filler'))

  /** Commits rows until PostgreSQL refuses; returns its error. */
  async function fillUntilRefused(): Promise<string> {
    for (let turn = 0; turn < (2 * quota) / (ROWS * ROW_BYTES); turn++) {
      const message = await refusal(filling(ROWS))
      if (message !== '') return message
    }
    throw new Error(`twice the quota of ${quota} bytes was written`)
  }

  async function expectUnbroken(): Promise<void> {
    expect(await sql('SELECT pg_postmaster_start_time()')).to.equal(started)
    const log = await readFile(`${session.writeCache?.path}/log/postgresql.log`, 'utf8')
    expect(log).not.to.match(/PANIC|was terminated by signal/)
  }

  let rows = 0

  it('keeps committed rows although the backup sets fsync = off', async () => {
    expect(await sql('SHOW fsync')).to.equal('on')
  })

  it('causes a warning at 80 % of the quota, while writes still succeed', async () => {
    await fill(Math.ceil((0.82 * quota - (await changedBytes())) / ROW_BYTES))
    const warning = await warned('low')
    expect(warning.usage).to.include({ quotaBytes: quota })
    expect(warning.message).to.match(/of the quota of 67\.1 MB/)
    await fill(1)
    const view = await fleet.show(session.id)
    expect(view.warnings).to.include(warning.message)
    const { status, stdout } = await fleet.howdah('show', session.id)
    expect(status).to.equal(0)
    expect(stdout).to.match(/changes +\d\d\.\d of 67\.1 MB; .* free on the target/)
  })

  it('fails clients with "No space left on device", and keeps committed rows', async () => {
    rows = await count()
    const message = await fillUntilRefused()
    expect(message).to.match(/ERROR: {2}53100: could not (extend|write).*: No space left on device/s)
    const after = await count()
    expect((after - rows) % ROWS).to.equal(0)
    rows = after
    await expectUnbroken()
  })

  it('still serves reads and checkpoints, and refuses writes, for many clients at once', async () => {
    const attempts = Array.from({ length: 6 }, async (_, client) => {
      for (let turn = 0; turn < 3; turn++) {
        await refusal(
          `CREATE TABLE more_${client}_${turn} AS SELECT n, repeat($$y$$, 500) FROM generate_series(1, 20000) AS n;`,
        )
        expect(await sql('SELECT count(*) FROM notes')).to.equal('1000')
        expect(await count()).to.equal(rows)
      }
    })
    await Promise.all(attempts)
    await sql('CHECKPOINT')
    await expectUnbroken()
    expect((await changedBytes()) / quota).to.be.at.most(1)
  })

  it('is resumed after kill -9 of the mount process, although not even a small file has room', async () => {
    for (let turn = 0; (await refusal(`CREATE TABLE small_${turn} AS TABLE notes`)) === ''; turn++) {
      expect(turn * 48 * 1024).to.be.below(quota)
    }
    const pid = Number(execFileSync('pgrep', ['-f', `^howdah mount ${session.id}$`], { encoding: 'utf8' }))
    const lost = fleet.untilState(session.id, 'disrupted')
    process.kill(pid, 'SIGKILL')
    await lost
    session = await fleet.untilState(session.id, 'published')
    expect(await count()).to.equal(rows)
    started = await sql('SELECT pg_postmaster_start_time()')
    expect(await fillUntilRefused()).to.match(/53100.*No space left on device/s)
    rows = await count()
  })

  it('accepts writes again after space was freed, and clears the warning', async () => {
    await sql('DROP TABLE spare')
    await sql('TRUNCATE filler')
    await sql('CHECKPOINT')
    await warned('cleared')
    expect((await fleet.show(session.id)).warnings).to.deep.equal([
      'Switched off, so that production is not disturbed: archiving.',
    ])
    for (let turn = 0; turn < 3; turn++) await fill()
    await sql('CHECKPOINT')
    expect(await count()).to.equal(3 * ROWS)
    expect(await sql('SELECT count(*) FROM notes')).to.equal('1000')
    await expectUnbroken()
  })

  it('accepts writes beyond the old quota after that was raised and the mount was made again', async () => {
    await fillUntilRefused()
    rows = await count()
    const file = path.join(fleet.directory, 'target-agent.json')
    const configuration = JSON.parse(await readFile(file, 'utf8')) as { cache: object }
    configuration.cache = { ...configuration.cache, quotaBytes: 4 * quota }
    await fleet.stop('target-agent')
    await writeFile(file, JSON.stringify(configuration))
    await fleet.start('target-agent')
    const pid = Number(execFileSync('pgrep', ['-f', `^howdah mount ${session.id}$`], { encoding: 'utf8' }))
    const lost = fleet.untilState(session.id, 'disrupted')
    process.kill(pid, 'SIGKILL')
    await lost
    session = await fleet.untilState(session.id, 'published')
    for (let turn = 0; turn < 5; turn++) await fill()
    expect(await count()).to.equal(rows + 5 * ROWS)
    expect((await fleet.show(session.id)).usage?.quotaBytes).to.equal(4 * quota)
  })
})
