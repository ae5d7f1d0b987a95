/** The verbs for a session from publish to unpublish: the commands that they send, what they wait for, and their exit status. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'chai'
import type { CheckReport, CommandType } from '../../messages/definitions.ts'
import type { ExportView } from '../../messages/exports.ts'
import type { SessionView, StepReport } from '../../messages/values.ts'
import { createFakeBus, type FakeBus, sessionView, stateEvent } from './fake-bus.ts'
import { run, until } from './run.ts'

const ID = 'main-x7f3k2'
const AT = '2025-11-22T06:30:00.000Z'
const SOURCE = ['--repository', 'prod', '--instance', 'main', '--target', 'local']

const step = (name: StepReport['step'], sequence: number, changes: Partial<StepReport> = {}): StepReport => ({
  step: name,
  direction: 'run',
  sequence,
  status: 'done',
  startedAt: AT,
  finishedAt: AT,
  ...changes,
})

const connection = { host: '/run/x', port: 54320, socketDirectory: '/run/x', user: 'postgres' }

/** Published by the step with that number. */
const published = (sequence: number, changes: Partial<SessionView> = {}): SessionView =>
  sessionView({ state: 'published', connection, steps: [step('recover', sequence)], ...changes })

describe('the verbs for a session', () => {
  let view: SessionView
  let bus: FakeBus
  let report: CheckReport

  const accepted = () => ({ accepted: true, session: ID }) as const

  beforeEach(() => {
    view = published(4)
    report = { findings: [], estimate: {} }
    bus = createFakeBus({
      'instance.publish': accepted,
      'instance.check': () => ({ accepted: true, report }),
      'session.republish': ({ alongside }) => ({
        accepted: true,
        session: alongside === true ? 'main-b' : ID,
      }),
      'session.retry': accepted,
      'session.promote': accepted,
      'session.advance': accepted,
      'session.cancel': accepted,
      'session.unpublish': accepted,
      'session.extend': accepted,
      'session.show': ({ session }) => ({ accepted: true, session: { ...view, id: session } }),
    })
  })

  /** What the coordinator says from now on. */
  function settle(next: SessionView) {
    view = next
    bus.deliver('session.state', stateEvent(ID, next.state))
  }

  const bodyOf = (type: CommandType) => bus.requests.find((request) => request.type === type)?.body
  const asked = (type: CommandType) => bus.requests.filter((request) => request.type === type).length

  describe('publish', () => {
    let directory: string
    before(() => {
      directory = mkdtempSync(path.join(tmpdir(), 'howdah-cli-'))
    })
    after(() => rmSync(directory, { recursive: true }))

    it('sends listen addresses, settings, expiry and the content of pg_hba.conf', async () => {
      const file = path.join(directory, 'hba.conf')
      writeFileSync(file, 'host all all all scram-sha-256\n')
      const flags = [
        '--listen',
        '*',
        '--listen',
        '10.0.0.5',
        '--setting',
        'work_mem=64MB',
        '--setting',
        'a.b=c=d',
      ]
      const more = [
        '--superuser',
        'Shop Admin',
        '--hba-file',
        file,
        '--expires',
        '1d12h',
        '--after-recovery',
        'pause',
      ]
      const { status, stderr } = run(['publish', ...SOURCE, ...flags, ...more, '--no-wait'], { bus })
      expect(await status, stderr()).to.equal(0)
      expect(bodyOf('instance.publish')).to.deep.equal({
        repository: 'prod',
        instance: 'main',
        target: 'local',
        superuser: 'Shop Admin',
        afterRecovery: 'pause',
        listen: ['*', '10.0.0.5'],
        settings: { work_mem: '64MB', 'a.b': 'c=d' },
        hba: 'host all all all scram-sha-256\n',
        expiresIn: 129_600,
      })
    })

    const wrong: [string, string[], string][] = [
      ['a setting without a value', ['--setting', 'work_mem'], 'work_mem=64MB'],
      ['a setting given twice', ['--setting', 'a=1', '--setting', 'A=2'], 'a is given twice'],
      ['a pg_hba.conf that does not exist', ['--hba-file', '/nowhere/hba'], 'ENOENT'],
      ['a directory as pg_hba.conf', ['--hba-file', '/tmp'], '--hba-file FILE'],
      ['an expiry without a unit', ['--expires', '4'], '30m, 4h, 2d'],
      ['an expiry after more than a year', ['--expires', '366d'], '365d'],
      ['an unknown value of --after-recovery', ['--after-recovery', 'shutdown'], 'promote or pause'],
    ]
    for (const [name, flags, text] of wrong) {
      it(`refuses ${name}`, async () => {
        const { status, stderr } = run(['publish', ...SOURCE, ...flags], { bus })
        expect(await status).to.equal(2)
        expect(stderr()).to.include(text)
        expect(bus.requests).to.deep.equal([])
      })
    }

    it('shows where a paused recovery stands, and the commands that continue it', async () => {
      view = published(4, {
        paused: { lsn: '0/5000060', lastCommit: '2025-11-22T06:02:11Z' },
        expiresAt: '2025-11-22T10:33:10Z',
      })
      const { status, stdout } = run(['publish', ...SOURCE], { bus, columns: 100 })
      expect(await status).to.equal(0)
      expect(stdout()).to.match(/paused +at 0\/5000060, last commit .*06:02:11 UTC\)?; read-only/)
      expect(stdout())
        .to.include(`howdah promote ${ID}\n`)
        .and.to.include(`howdah advance ${ID} --recover-to`)
      expect(stdout()).to.match(/expires +.*in 4 h/)
    })

    it('exits with 1 when the session waits for a retry, and names the command', async () => {
      view = sessionView({
        state: 'disrupted',
        awaitsRetry: true,
        error: { code: 'postgres_failed', message: 'it died' },
      })
      const { status, stdout } = run(['publish', ...SOURCE], { bus })
      expect(await status).to.equal(1)
      expect(stdout()).to.include('Disrupted').and.to.include(`howdah retry ${ID}`).and.to.include('it died')
    })

    it('keeps waiting for a disrupted session that is retried automatically', async () => {
      view = sessionView({ state: 'disrupted', retryAt: AT })
      const { status, stdout } = run(['publish', ...SOURCE], { bus })
      await until(() => stdout().includes('disrupted'), 'the disruption is shown')
      settle(published(4))
      expect(await status).to.equal(0)
    })

    it('is done when the session is exporting already', async () => {
      view = published(4, { state: 'exporting' })
      expect(await run(['publish', ...SOURCE], { bus }).status).to.equal(0)
    })
  })

  describe('republish', () => {
    it('waits for the new instance, not for the present one', async () => {
      view = published(4, { warnings: ['the old one'] })
      const { status, stdout } = run(['republish', ID, '--recover-to', 'immediate', '--discard-changes'], {
        bus,
      })
      await until(() => asked('session.republish') === 1 && bus.watchers === 1, 'it is sent')
      await until(() => asked('session.show') >= 3, 'the instance that is there was seen')
      settle(sessionView({ state: 'unpublishing', steps: [step('recover', 5, { direction: 'undo' })] }))
      settle(published(9, { warnings: ['the new one'] }))
      expect(await status).to.equal(0)
      expect(bodyOf('session.republish')).to.deep.equal({
        session: ID,
        recoverTo: { type: 'immediate' },
        discardChanges: true,
      })
      expect(stdout()).to.include('the new one').and.not.to.include('the old one')
    })

    it('follows the second session with --alongside', async () => {
      const { status, stdout } = run(['republish', ID, '--alongside', '--port', '5444', '--json'], { bus })
      expect(await status).to.equal(0)
      expect(JSON.parse(stdout()).id).to.equal('main-b')
      expect(bodyOf('session.republish')).to.deep.equal({ session: ID, alongside: true, port: 5444 })
    })

    it('is refused while changes are not exported, and says how to proceed', async () => {
      const refusing = createFakeBus({
        'session.show': () => ({ accepted: true, session: view }),
        'session.republish': () => ({
          accepted: false,
          error: { code: 'changes_unexported', message: 'it holds changes in shop', field: 'discardChanges' },
        }),
      })
      const { status, stderr, stdout } = run(['republish', ID, '--json'], { bus: refusing })
      expect(await status).to.equal(1)
      expect(JSON.parse(stdout()).error.code).to.equal('changes_unexported')
      expect(stderr()).to.include('it holds changes in shop')
    })

    it('accepts --port only with --alongside', async () => {
      const { status, stderr } = run(['republish', ID, '--port', '5444'], { bus })
      expect(await status).to.equal(2)
      expect(stderr()).to.include('--alongside')
    })
  })

  it('promote waits until recovery has ended', async () => {
    view = published(4, { paused: { lsn: '0/5000060' }, warnings: ['still paused'] })
    const { status, stdout } = run(['promote', ID], { bus })
    await until(() => asked('session.promote') === 1 && asked('session.show') >= 3, 'it is sent')
    settle(published(5))
    expect(await status).to.equal(0)
    expect(stdout()).to.include('Published in').and.not.to.include('still paused')
    expect(stdout()).not.to.include('mount ')
  })

  it('advance sends the later target, and shows where recovery is paused then', async () => {
    view = published(4, { paused: { lsn: '0/5000060' } })
    const { status, stdout } = run(['advance', ID, '--recover-to', 'lsn=0/6000000'], { bus })
    await until(() => bus.watchers === 1, 'it is sent')
    settle(published(5, { paused: { lsn: '0/5FFFFF0' } }))
    expect(await status).to.equal(0)
    expect(bodyOf('session.advance')).to.deep.equal({
      session: ID,
      recoverTo: { type: 'lsn', value: '0/6000000' },
    })
    expect(stdout()).to.include('at 0/5FFFFF0; read-only')
  })

  it('advance requires a target', async () => {
    const { status, stderr } = run(['advance', ID], { bus })
    expect(await status).to.equal(2)
    expect(stderr()).to.include('missing --recover-to WHAT')
  })

  it('retry is done at once when the session is published already', async () => {
    const { status } = run(['retry', ID], { bus })
    expect(await status).to.equal(0)
    expect(asked('session.retry')).to.equal(1)
  })

  it('retry of a session whose changes were kept waits until it is published', async () => {
    view = sessionView({ state: 'closed', keptCache: true, steps: [step('mount', 8, { direction: 'undo' })] })
    const { status, stdout } = run(['retry', ID, '--json'], { bus })
    await until(() => asked('session.show') >= 3, 'the closed session was seen')
    settle(published(12))
    expect(await status).to.equal(0)
    expect(JSON.parse(stdout()).state).to.equal('published')
  })

  it('unpublish --keep-cache names the command that publishes the changes again', async () => {
    const { status, stdout } = run(['unpublish', ID, '--keep-cache'], { bus })
    await until(() => bus.watchers === 1, 'it is sent')
    settle(sessionView({ state: 'closed', keptCache: true, undone: ['unmounted it'] }))
    expect(await status).to.equal(0)
    expect(bodyOf('session.unpublish')).to.deep.equal({ session: ID, keepCache: true })
    expect(stdout()).to.include('its changes are kept').and.to.include(`howdah retry ${ID}`)
  })

  it('cancel of a publish waits until everything is undone', async () => {
    view = sessionView({ state: 'mounting', steps: [step('mount', 3, { status: 'running' })] })
    const { status, stdout } = run(['cancel', ID], { bus })
    await until(() => bus.watchers === 1, 'it is sent')
    settle(sessionView({ state: 'unpublishing', steps: [step('mount', 4, { direction: 'undo' })] }))
    settle(
      sessionView({
        state: 'failed',
        error: { code: 'cancelled', message: 'the publishing was cancelled' },
        undone: ['unmounted it'],
      }),
    )
    expect(await status).to.equal(0)
    expect(stdout()).to.include('Stopped in').and.to.include('undone  unmounted it')
  })

  it('cancel of an export keeps the instance published, and names the export', async () => {
    const job: ExportView = {
      id: 'e2',
      request: { destination: { type: 'directory', path: '/srv' } },
      status: 'running',
      requestedAt: AT,
      databases: [],
    }
    view = published(4, { state: 'exporting', exports: [job] })
    const { status, stdout } = run(['cancel', ID], { bus })
    await until(() => bus.watchers === 1, 'it is sent')
    settle(published(4, { exports: [{ ...job, status: 'cancelled' }] }))
    expect(await status).to.equal(0)
    expect(stdout()).to.include('Export e2 is cancelled')
  })

  it('extend sends the time in seconds, and shows when the session expires', async () => {
    view = published(4, { expiresAt: '2025-11-22T10:33:10Z' })
    const { status, stdout } = run(['extend', ID, '4h'], { bus })
    expect(await status).to.equal(0)
    expect(bodyOf('session.extend')).to.deep.equal({ session: ID, expiresIn: 14_400 })
    expect(stdout()).to.include('in 4 h')
  })

  it('extend --never removes the expiry', async () => {
    const { status, stdout } = run(['extend', ID, '--never'], { bus })
    expect(await status).to.equal(0)
    expect(bodyOf('session.extend')).to.deep.equal({ session: ID, expiresIn: null })
    expect(stdout()).to.include('lives until it is unpublished')
  })

  it('extend is wrong usage without TIME or --never, and with both', async () => {
    for (const args of [
      ['extend', ID],
      ['extend', ID, '4h', '--never'],
      ['extend', ID, 'soon'],
    ]) {
      const { status, stderr } = run(args, { bus })
      expect(await status).to.equal(2)
      expect(stderr()).to.include('4h')
    }
    expect(bus.requests).to.deep.equal([])
  })

  describe('check', () => {
    it('shows errors before warnings and the estimate, and exits with 1', async () => {
      report = {
        backup: '20251122-060000F',
        recoverTo: { type: 'latest' },
        findings: [
          { level: 'warning', code: 'locale_missing', message: 'its collation version is another' },
          { level: 'error', code: 'port_taken', message: 'port 5432 is in use; choose another' },
        ],
        estimate: { fetchBytes: 2_100_000, walBytes: 33_600_000, cacheBytes: 50_000_000, freeBytes: 4e9 },
      }
      const { status, stdout } = run(['check', ...SOURCE, '--port', '5432'], { bus })
      expect(await status).to.equal(1)
      const text = stdout()
      expect(text).to.include('Cannot be published: 1 error, 1 warning.')
      expect(text.indexOf('port 5432 is in use')).to.be.lessThan(text.indexOf('its collation version'))
      for (const part of ['2.10 MB', '33.6 MB of WAL', '50.0 MB, 4.00 GB free', '20251122-060000F'])
        expect(text).to.include(part)
      expect(bodyOf('instance.check')).to.deep.equal({
        repository: 'prod',
        instance: 'main',
        target: 'local',
        port: 5432,
      })
    })

    it('exits with 0 for warnings only', async () => {
      report = { findings: [{ level: 'warning', code: 'locale_missing', message: 'hm' }], estimate: {} }
      const { status, stdout } = run(['check', ...SOURCE], { bus })
      expect(await status).to.equal(0)
      expect(stdout()).to.include('Can be published: 1 warning.')
    })

    it('prints only the report with --json, and what prevents publishing as its error', async () => {
      report = {
        findings: [{ level: 'error', code: 'fuse_unusable', message: 'no' }],
        estimate: { freeBytes: 1 },
      }
      const { status, stdout } = run(['check', ...SOURCE, '--json'], { bus })
      expect(await status).to.equal(1)
      expect(JSON.parse(stdout())).to.deep.equal({
        ...report,
        error: { code: 'fuse_unusable', message: 'no', retryable: false },
      })
    })
  })
})
