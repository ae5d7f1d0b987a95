/** `howdah export` and `howdah rescue`: the commands that they send, their output and their exit status. */
import { stripVTControlCharacters } from 'node:util'
import { expect } from 'chai'
import type { ExportRequest, ExportView } from '../../messages/exports.ts'
import type { SessionView } from '../../messages/values.ts'
import { createFakeBus, type FakeBus, sessionView, stateEvent } from './fake-bus.ts'
import { run, until } from './run.ts'

const ID = 'main-x7f3k2'
const AT = '2025-11-22T06:30:00.000Z'
const RESCUE = ['rescue', '--repository', 'prod', '--instance', 'main', '--target', 'local']

const job = (changes: Partial<ExportView> = {}): ExportView => ({
  id: 'e1',
  request: { destination: { type: 'directory', path: '/srv/rescue' } },
  status: 'pending',
  requestedAt: AT,
  databases: [],
  ...changes,
})

const done = job({
  status: 'done',
  databases: [
    { database: 'shop', status: 'done', tables: 12, rows: 1000, bytes: 5_000_000, path: '/srv/rescue/shop' },
    { database: 'app', status: 'done', tables: 1, rows: 1, bytes: 2000, path: '/srv/rescue/app' },
  ],
  totals: { databases: 2, done: 2, failed: 0, tables: 13, rows: 1001, bytes: 5_002_000 },
  manifest: '/srv/rescue/manifest.json',
})

const failed = job({
  status: 'failed',
  databases: [
    { database: 'shop', status: 'done', tables: 12, rows: 1000, bytes: 5_000_000 },
    { database: 'app', status: 'failed', error: { code: 'export_failed', message: 'no table x in app' } },
  ],
  totals: { databases: 2, done: 1, failed: 1, tables: 12, rows: 1000, bytes: 5_000_000 },
  error: { code: 'export_failed', message: 'not exported: app. no table x in app' },
})

describe('howdah export', () => {
  let view: SessionView
  let bus: FakeBus

  beforeEach(() => {
    view = sessionView({ state: 'exporting', exports: [job()] })
    bus = createFakeBus({
      'instance.publish': () => ({ accepted: true, session: ID }),
      'session.export': () => ({ accepted: true, session: ID, export: 'e1' }),
      'session.show': () => ({ accepted: true, session: view }),
    })
  })

  function settle(next: SessionView) {
    view = next
    bus.deliver('session.state', stateEvent(ID, next.state))
  }

  const requested = (): ExportRequest => {
    const sent = bus.requests.find(({ type }) => type === 'session.export')?.body ?? {}
    const { session: _, ...request } = sent as ExportRequest & { session: string }
    return request
  }

  const places: [string[], ExportRequest['destination']][] = [
    [['--to', '/srv/rescue'], { type: 'directory', path: '/srv/rescue' }],
    [
      ['--to', 'ssh://dba@files-1:2222/srv/a%20b', '--credential', 'files'],
      { type: 'sftp', host: 'files-1', port: 2222, user: 'dba', path: '/srv/a b', credential: 'files' },
    ],
    [['--to', 'ssh://files-1/srv'], { type: 'sftp', host: 'files-1', path: '/srv' }],
    [['--into', 'postgres://[::1]:5433'], { type: 'postgres', host: '::1', port: 5433 }],
    [
      ['--into', 'postgresql://app%40x@db-1:443/shop'],
      { type: 'postgres', host: 'db-1', port: 443, user: 'app@x', database: 'shop' },
    ],
  ]
  for (const [flags, destination] of places) {
    it(`accepts ${flags.join(' ')}`, async () => {
      const { status, stderr } = run(['export', ID, ...flags, '--no-wait'], { bus })
      expect(await status, stderr()).to.equal(0)
      expect(requested()).to.deep.equal({ destination })
    })
  }

  it('sends databases, tables, format, jobs and renames as given', async () => {
    const what = ['--database', 'shop', '--database', 'app', '--table', 'sales.*']
    const { status } = run(
      ['export', ID, ...what, '--to', '/x', '--format', 'custom', '--jobs', '4', '--no-wait'],
      {
        bus,
      },
    )
    expect(await status).to.equal(0)
    expect(requested()).to.deep.equal({
      databases: ['shop', 'app'],
      tables: ['sales.*'],
      format: 'custom',
      jobs: 4,
      destination: { type: 'directory', path: '/x' },
    })
  })

  it('sends the new names of databases for a live server', async () => {
    const { status } = run(['export', ID, '--into', 'postgres://db-1', '--rename', 'a=b', '--no-wait'], {
      bus,
    })
    expect(await status).to.equal(0)
    expect(requested().rename).to.deep.equal([{ from: 'a', to: 'b' }])
  })

  const secrets = [
    ['--to', 'ssh://u:hunter2@h/srv'],
    ['--into', 'postgres://u:hunter2@h/db'],
    ['--into', 'postgres://h/db?password=hunter2'],
  ]
  for (const flags of secrets) {
    it(`refuses a password in ${flags[0]} ${flags[1]?.split('/')[0]}//…, points to --credential, and does not repeat the password`, async () => {
      const { status, stdout, stderr } = run(['export', ID, ...flags, '--json'], { bus })
      expect(await status).to.equal(2)
      expect(stderr()).to.include('--credential')
      expect(stdout() + stderr()).not.to.include('hunter2')
      expect(bus.requests).to.deep.equal([])
    })
  }

  const wrong: [string, string[], string][] = [
    ['an export without a destination', [], '--to PLACE or --into URL'],
    ['two destinations', ['--to', '/x', '--into', 'postgres://h'], '--to PLACE or --into URL'],
    ['a relative directory', ['--to', 'x'], 'an absolute path on the target server'],
    ['an SSH host without a directory', ['--to', 'ssh://h'], 'with a directory behind the host'],
    ['an unknown URL scheme', ['--into', 'mysql://h/db'], 'postgres://'],
    ['--rename for dump files', ['--to', '/x', '--rename', 'a=b'], '--rename is for --into'],
    ['--format for a live server', ['--into', 'postgres://h', '--format', 'plain'], '--format is for --to'],
    ['a credential for a directory', ['--to', '/x', '--credential', 'c'], '--credential'],
    ['an unknown format', ['--to', '/x', '--format', 'tar'], 'directory, custom or plain'],
  ]
  for (const [name, flags, text] of wrong) {
    it(`refuses ${name}`, async () => {
      const { status, stderr } = run(['export', ID, ...flags], { bus })
      expect(await status).to.equal(2)
      expect(stderr()).to.include(text)
    })
  }

  it('shows the progress and the result of each database', async () => {
    const { status, stdout } = run(['export', ID, '--to', '/srv/rescue'], { bus })
    await until(() => stdout().includes('Exporting') && bus.watchers === 1, 'it is followed')
    await until(() => bus.requests.filter(({ type }) => type === 'session.show').length >= 3, 'it was seen')
    bus.deliver('session.step-progress', {
      session: ID,
      step: 'export',
      direction: 'run',
      sequence: 9,
      databases: [{ database: 'shop', status: 'running', tables: 12, tablesDone: 3, bytes: 1_200_000 }],
    })
    await until(() => stdout().includes('3 of 12 tables'), 'progress is shown')
    settle(sessionView({ state: 'published', exports: [done] }))
    expect(await status).to.equal(0)
    for (const part of ['Exported 1001 rows, 5.00 MB', '/srv/rescue/shop', '/srv/rescue/manifest.json'])
      expect(stdout()).to.include(part)
  })

  it('repaints one line per database on a terminal, each within its width', async () => {
    const { status, stdout } = run(['export', ID, '--to', '/srv/rescue'], { bus, tty: true, columns: 60 })
    await until(() => stdout().includes('export'), 'the step is shown')
    bus.deliver('session.step-progress', {
      session: ID,
      step: 'export',
      direction: 'run',
      sequence: 9,
      databases: Array.from({ length: 40 }, (_, index) => ({
        database: `${'long'.repeat(15)}${index}`.slice(-63),
        status: 'running' as const,
        tables: 1200,
        tablesDone: 3,
        rows: 123_456_789,
        bytes: 1_200_000,
      })),
    })
    await until(() => stdout().includes('and 28 more'), 'databases are shown')
    settle(sessionView({ state: 'published', exports: [job({ status: 'done' })] }))
    expect(await status).to.equal(0)
    const wide = stripVTControlCharacters(stdout())
      .split('\n')
      .filter((line) => [...line].length > 60 && !line.startsWith('Exporting'))
    expect(wide).to.deep.equal([])
  })

  it('names a database that fails, and exits with 1', async () => {
    view = sessionView({ state: 'published', exports: [failed] })
    const { status, stdout } = run(['export', ID, '--to', '/srv/rescue'], { bus })
    expect(await status).to.equal(1)
    expect(stdout()).to.include('Not all exported').and.to.include('1 of 2 databases')
    expect(stdout()).to.match(/app +failed: no table x in app/)
  })

  it('prints one JSON document with --json, and progress on stderr', async () => {
    view = sessionView({ state: 'published', exports: [done] })
    const { status, stdout, stderr } = run(['export', ID, '--to', '/srv/rescue', '--json'], { bus })
    expect(await status).to.equal(0)
    expect(JSON.parse(stdout())).to.deep.equal({ session: ID, ...done })
    expect(stderr()).to.include('Exported')
  })

  it('continues after Ctrl-C; the message says how to stop it', async () => {
    const running = run(['export', ID, '--to', '/srv/rescue'], { bus })
    await until(() => bus.watchers === 1, 'it is followed')
    running.interrupt()
    expect(await running.status).to.equal(130)
    expect(running.stderr()).to.include(`"howdah cancel ${ID}" stops the export`)
    expect(bus.requests.some(({ type }) => type === 'session.cancel')).to.equal(false)
  })

  it('exits with 1 when its session waits for a retry', async () => {
    view = sessionView({
      state: 'disrupted',
      awaitsRetry: true,
      exports: [job()],
      error: { code: 'mount_failed', message: 'the mount is gone' },
    })
    const { status, stdout } = run(['export', ID, '--to', '/srv/rescue'], { bus })
    expect(await status).to.equal(1)
    expect(stdout()).to.include('the mount is gone').and.to.include(`howdah retry ${ID}`)
  })

  describe('howdah rescue', () => {
    const rescued = () => sessionView({ state: 'closed', exports: [done] })

    it('publishes with the export, waits until the session is closed, and shows what was exported', async () => {
      const { status, stdout } = run(
        [...RESCUE, '--recover-to', 'immediate', '--table', 'orders', '--to', '/srv'],
        {
          bus,
        },
      )
      await until(() => bus.watchers === 1, 'it is followed')
      settle(sessionView({ state: 'exporting', exports: [job({ status: 'running' })] }))
      settle(sessionView({ state: 'unpublishing', exports: [done] }))
      settle(rescued())
      expect(await status).to.equal(0)
      expect(bus.requests.find(({ type }) => type === 'instance.publish')?.body).to.deep.equal({
        repository: 'prod',
        instance: 'main',
        target: 'local',
        recoverTo: { type: 'immediate' },
        export: { tables: ['orders'], destination: { type: 'directory', path: '/srv' } },
      })
      expect(stdout()).to.include('Exported 1001 rows').and.to.include('/srv/rescue/manifest.json')
    })

    it('prints the closed session with its exports with --json', async () => {
      view = rescued()
      const { status, stdout } = run([...RESCUE, '--database', 'shop', '--to', '/srv', '--json'], { bus })
      expect(await status).to.equal(0)
      expect(JSON.parse(stdout())).to.deep.equal(rescued())
    })

    it('names a database that fails, and exits with 1', async () => {
      view = sessionView({ state: 'failed', exports: [failed], ...(failed.error && { error: failed.error }) })
      const { status, stdout } = run([...RESCUE, '--database', 'shop', '--to', '/srv'], { bus })
      expect(await status).to.equal(1)
      expect(stdout()).to.include('Not all exported').and.to.include('no table x in app')
    })

    it('shows why the instance could not be published', async () => {
      view = sessionView({
        state: 'failed',
        exports: [job({ status: 'cancelled' })],
        error: { code: 'port_taken', message: 'port 5432 is in use' },
        undone: ['unmounted it'],
      })
      const { status, stdout } = run([...RESCUE, '--database', 'shop', '--to', '/srv'], { bus })
      expect(await status).to.equal(1)
      expect(stdout()).to.include('Not rescued').and.to.include('port 5432 is in use')
    })

    it('says that it waits for a retry, and keeps waiting', async () => {
      view = sessionView({ state: 'disrupted', awaitsRetry: true, exports: [job()] })
      const running = run([...RESCUE, '--database', 'shop', '--to', '/srv'], { bus })
      await until(() => running.stdout().includes(`howdah retry ${ID}`), 'it says what to do')
      running.interrupt()
      expect(await running.status).to.equal(130)
      expect(running.stderr()).to.include(`"howdah cancel ${ID}" ends it`)
    })

    it('is wrong usage without a table or database', async () => {
      const { status, stderr } = run([...RESCUE, '--to', '/srv'], { bus })
      expect(await status).to.equal(2)
      expect(stderr()).to.include('At least one --table T or --database D')
    })
  })
})
