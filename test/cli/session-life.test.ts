/** The verbs of a session's life on real parts: one production, one fleet, one session from check to rescue. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chown, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import type { CheckReport } from '../../messages/definitions.ts'
import type { ExportView } from '../../messages/exports.ts'
import type { RepositoryInventory, SessionView } from '../../messages/values.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'
import { LAUNCHER } from '../support/fleet-roles.ts'
import { postgresAccount } from '../support/postgres-cluster.ts'
import { makeProduction, type Production } from '../support/production.ts'

describe('the verbs for a session, with a real broker, PostgreSQL and mount', function () {
  this.timeout(120_000)
  const zoneBefore = process.env.TZ
  let production: Production
  let fleet: Fleet
  let directory: string
  let source: string[]
  let session: SessionView
  /** Between the first and the second lot of notes, as it is in Kolkata, without a zone. */
  let between: string
  let betweenUtc: string
  let failed = false

  const notes = (of: SessionView) => fleet.sql(of, 'select count(*) from notes', 'shop')

  before(async () => {
    production = await makeProduction({ compress: 'zst', bundle: true, tablespace: false })
    await production.backup('full')
    await production.writeNotes(10, 'first')
    // Recovery ends at the first commit after its target: there must be time between the two lots.
    const moment = await production.sql(
      `select pg_sleep(1.2) is null \\g /dev/null
       select to_char(t at time zone 'Asia/Kolkata', 'YYYY-MM-DD HH24:MI:SS'), to_char(t at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
         from (select date_trunc('second', clock_timestamp()) as t) as moment`,
    )
    ;[between = '', betweenUtc = ''] = moment.trim().split('|')
    await production.sql('select pg_sleep(0.2)')
    await production.writeNotes(100, 'second')
    await production.switchWal()
    directory = await mkdtemp(path.join(tmpdir(), 'howdah-life-'))
    // Exports are written with the rights of the instance's user.
    const { uid, gid } = await postgresAccount()
    await chown(directory, uid, gid)
    fleet = await startFleet({
      repositories: [{ name: 'main', format: 'pgbackrest', path: production.path }],
    })
    source = ['--repository', 'main', '--instance', production.stanza, '--target', 'db-7']
    process.env.TZ = 'Asia/Kolkata'
  })

  afterEach(function () {
    failed ||= this.currentTest?.state === 'failed'
  })

  after(async () => {
    if (zoneBefore === undefined) delete process.env.TZ
    else process.env.TZ = zoneBefore
    await fleet?.remove(failed)
    await production?.remove()
    if (directory !== undefined) await rm(directory, { recursive: true, force: true })
  })

  it('backups shows the period to which the instance can be recovered', async () => {
    const { repositories } = await fleet.howdahJson<{ repositories: RepositoryInventory[] }>('backups')
    const windows = repositories[0]?.instances[0]?.windows ?? []
    expect(windows.map(({ timeline }) => timeline)).to.deep.equal([1])
    const { stdout } = await fleet.howdah('backups')
    expect(stdout).to.match(/Recoverable on timeline 1\n +from +.*\+05:30 \(.* UTC\)/)
  })

  it('check reports that it can be published, and what that needs', async () => {
    const report = await fleet.howdahJson<CheckReport>('check', ...source)
    expect(report.findings.filter(({ level }) => level === 'error')).to.deep.equal([])
    expect(report.estimate.cacheBytes).to.be.greaterThan(0)
  })

  it('check exits with 1 and reports everything that prevents publishing at once', async () => {
    const { status, stdout } = await fleet.howdah(
      ...['check', ...source, '--port', String(production.port), '--user', 'nobody-of-that-name'],
    )
    expect(status).to.equal(1)
    expect(stdout).to.include('port_taken').and.to.include('user_missing')
  })

  it('publish interprets a time without a zone as local time, and says so', async () => {
    const { status, stdout, stderr } = await fleet.howdah(
      ...['publish', ...source, '--recover-to', `time=${between}`, '--expires', '2h', '--json'],
    )
    expect(status, stderr).to.equal(0)
    expect(stderr).to.match(new RegExp(`${between} in Asia/(Calcutta|Kolkata) is`))
    session = JSON.parse(stdout)
    expect(session.recoverTo).to.deep.equal({ type: 'time', value: `${betweenUtc}Z` })
    expect(await notes(session)).to.equal('1010')
  })

  it('sessions shows when it expires and how many sessions its target has, and extend changes the expiry', async () => {
    const { stdout } = await fleet.howdah('sessions')
    expect(stdout).to.match(/in (119 min|1 h)/)
    expect(stdout).to.match(/target db-7 +1 (of \d+ )?session/)
    const view = await fleet.howdahJson<SessionView>('extend', session.id, '--never')
    expect(view.expiresAt).to.equal(undefined)
  })

  it('republish is refused while there are changes that were not exported', async () => {
    await fleet.sql(session, "insert into notes (note) values ('mine')", 'shop')
    const { status, stdout } = await fleet.howdah('republish', session.id, '--json')
    expect(status).to.equal(1)
    expect(JSON.parse(stdout).error.code).to.equal('changes_unexported')
  })

  it('export writes the databases that were changed, and reports rows, bytes and paths', async () => {
    const done = await fleet.howdahJson<ExportView>(
      'export',
      session.id,
      '--to',
      path.join(directory, 'changed'),
    )
    expect(done.status).to.equal('done')
    expect(done.databases.map(({ database }) => database)).to.deep.equal(['shop'])
    expect(done.databases[0]?.rows).to.be.greaterThan(1010)
    expect(existsSync(done.manifest ?? '')).to.equal(true)
  })

  it('export of a database that does not exist exits with 1 and names it', async () => {
    const { status, stdout } = await fleet.howdah(
      ...['export', session.id, '--database', 'nowhere', '--to', path.join(directory, 'nowhere')],
    )
    expect(status).to.equal(1)
    expect(stdout).to.include('nowhere')
  })

  it('republish recovers the same session to another state, on the same port', async () => {
    const again = await fleet.howdahJson<SessionView>('republish', session.id, '--discard-changes')
    expect(again.id).to.equal(session.id)
    expect(again.connection?.port).to.equal(session.connection?.port)
    expect(await notes(again)).to.equal('1110')
    session = again
  })

  it('unpublish --keep-cache keeps the changes, and retry publishes them again', async () => {
    await fleet.sql(session, "insert into notes (note) values ('kept')", 'shop')
    const closed = await fleet.howdahJson<SessionView>('unpublish', session.id, '--keep-cache', '--yes')
    expect(closed).to.include({ state: 'closed', keptCache: true })
    session = await fleet.howdahJson<SessionView>('retry', session.id)
    expect(await notes(session)).to.equal('1111')
  })

  it('show lists every command, step and export in the history', async () => {
    const { stdout } = await fleet.howdah('show', session.id)
    for (const part of ['publish shop of main', 'republish', 'retry', 'export e1 done']) {
      expect(stdout).to.include(part)
    }
    expect(stdout).to.match(/\d s +recover done/)
    await fleet.howdahJson('unpublish', session.id, '--yes')
  })

  it('publish pauses at the target, advance recovers further, promote makes it writable', async () => {
    const paused = await fleet.howdahJson<SessionView>(
      ...['publish', ...source, '--recover-to', 'immediate', '--after-recovery', 'pause'],
    )
    expect(paused.paused).to.not.equal(undefined)
    expect(await notes(paused)).to.equal('1000')
    const further = await fleet.howdahJson<SessionView>(
      ...['advance', paused.id, '--recover-to', `time=${betweenUtc}Z`],
    )
    expect(await notes(further)).to.equal('1010')
    const promote = ['promote', paused.id, '--message-id', 'promote-once']
    const promoted = await fleet.howdahJson<SessionView>(...promote)
    expect(promoted.paused).to.equal(undefined)
    await fleet.sql(promoted, "insert into notes (note) values ('writable')", 'shop')
    // The same command again is not another one, and waits for nothing.
    expect(await fleet.howdahJson<SessionView>(...promote, '--timeout', '20')).to.include({ id: paused.id })
    session = promoted
  })

  it('unpublish refuses without a terminal while there are changes, and asks on one', async () => {
    const refused = await fleet.howdah('unpublish', session.id, '--json')
    expect(refused.status).to.equal(1)
    const { error } = JSON.parse(refused.stdout)
    expect(error).to.include({ code: 'changes_unexported', retryable: false })
    expect(error.message).to.include('shop').and.to.include('--yes')
    expect((await fleet.show(session.id)).state).to.equal('published')
    const command = `${LAUNCHER} unpublish ${session.id} --broker '${fleet.brokerUrl}'`
    const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
    let shown = ''
    terminal.stdout.setEncoding('utf8').on('data', (part: string) => {
      if (!shown.includes('[y/N]') && (shown + part).includes('[y/N]')) terminal.stdin.write('y\n')
      shown += part
    })
    const [status] = await once(terminal, 'close')
    expect(status, shown).to.equal(0)
    expect(shown).to.include('holds changes in shop that were not exported')
    expect((await fleet.show(session.id)).state).to.equal('closed')
    const late = await fleet.howdah('cancel', session.id, '--json')
    expect([late.status, JSON.parse(late.stdout).error.code]).to.deep.equal([1, 'session_state'])
  })

  it('rescue exports a table as it was at a time, and removes everything else', async () => {
    const closed = await fleet.howdahJson<SessionView>(
      ...['rescue', ...source, '--recover-to', `time=${betweenUtc}Z`],
      ...['--table', 'notes', '--to', path.join(directory, 'rescued'), '--format', 'custom'],
    )
    expect(closed.state).to.equal('closed')
    expect(closed.exports?.[0]?.databases).to.have.length(1)
    expect(closed.exports?.[0]?.databases[0]).to.include({ database: 'shop', status: 'done', rows: 1010 })
    expect(existsSync(closed.exports?.[0]?.manifest ?? '')).to.equal(true)
  })
})
