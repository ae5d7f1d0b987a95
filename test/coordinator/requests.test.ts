import { expect } from 'chai'
import { plan, stateOf } from '../../coordinator/planner.ts'
import * as requests from '../../coordinator/requests.ts'
import type { RetryPolicy } from '../../coordinator/retry-policy.ts'
import { isSettled, newSession, type Session } from '../../coordinator/session.ts'
import { stepInput } from '../../coordinator/step-command.ts'
import * as steps from '../../coordinator/step-transitions.ts'
import * as transitions from '../../coordinator/transitions.ts'
import type { ErrorCode } from '../../messages/errors.ts'
import { stepResults } from './step-results.ts'

const NOW = '2026-11-22T06:00:00.000Z'
const LATER = '2026-11-22T06:00:01.000Z'
const POLICY: RetryPolicy = {
  attempts: 3,
  firstDelayMs: 1000,
  maxDelayMs: 60_000,
  resume: { automatic: true, attempts: 2 },
}
const exportRequest = { destination: { type: 'directory', path: '/srv/out' } } as const

describe('a command to a session', () => {
  let session: Session
  let time: number

  beforeEach(() => {
    time = Date.parse(NOW)
    const request = {
      repository: 'main',
      instance: 'shop',
      backup: 'latest',
      recoverTo: { type: 'latest' as const },
      target: 'db-7',
      options: {},
    }
    session = newSession('shop-abc234', request, 'backup-1', NOW)
  })

  /** As the conductor after every change. @returns the step that was sent, e.g. `run mount` */
  function proceed(): string | undefined {
    requests.startRepublish(session)
    const next = plan(session, time)
    if (next.action === 'send') steps.beginStep(session, next.step, next.direction, NOW)
    session.state = stateOf(session)
    return next.action === 'send' ? `${next.direction} ${next.step}` : undefined
  }

  function finish(result?: Record<string, unknown>): void {
    const { current } = session
    if (!current) throw new Error('no step is in progress')
    const { step, direction, sequence } = current
    const given = result ?? (direction === 'run' ? stepResults[step] : { undone: [] })
    steps.stepDone(session, { session: session.id, step, direction, sequence, result: given }, LATER)
    session.state = stateOf(session)
  }

  function fail(code: ErrorCode): void {
    const { current } = session
    if (!current) throw new Error('no step is in progress')
    const { step, direction, sequence } = current
    const error = { code, message: `${step} broke` }
    steps.stepFailed(
      session,
      { session: session.id, step, direction, sequence, error },
      POLICY,
      time,
      () => 0.5,
    )
    session.state = stateOf(session)
  }

  /** Runs all steps that are due. @returns them in order */
  function settle(): string[] {
    const done: string[] = []
    for (let sent = proceed(); sent !== undefined; sent = proceed()) {
      done.push(sent)
      finish()
    }
    return done
  }

  const refusal = (command: () => void): string => {
    try {
      command()
    } catch (error) {
      return (error as { code: string }).code
    }
    return 'accepted'
  }

  it('to republish undoes everything and publishes again as the same session on the same port', () => {
    settle()
    requests.republish(session, requests.requestAgain(session, { recoverTo: { type: 'immediate' } }))
    expect(settle()).to.deep.equal([
      'undo recover',
      'undo mount',
      'undo preflight',
      'run resolve',
      'run preflight',
      'run mount',
      'run recover',
    ])
    expect(session).to.include({ id: 'shop-abc234', state: 'published' })
    expect(session.request).to.deep.include({ recoverTo: { type: 'immediate' }, options: { port: 54320 } })
  })

  it('to republish is superseded by an unpublish before it begins again', () => {
    settle()
    requests.republish(session, requests.requestAgain(session, {}))
    requests.unpublish(session, {})
    expect(settle()).to.deep.equal(['undo recover', 'undo mount', 'undo preflight'])
    expect(session.state).to.equal('closed')
  })

  it('to republish a closed session publishes it again', () => {
    settle()
    requests.unpublish(session, {})
    settle()
    requests.republish(session, requests.requestAgain(session, {}))
    settle()
    expect(session.state).to.equal('published')
  })

  it('to retry resumes a session whose attempts are used up', () => {
    settle()
    transitions.partLost(session, { session: session.id, what: 'mount', reason: 'gone' }, POLICY, NOW)
    for (let failures = 0; failures < 2; failures++) {
      expect(proceed()).to.equal('run mount')
      fail('mount_failed')
      time += 120_000
    }
    expect(proceed()).to.equal(undefined)
    expect(session).to.include({ state: 'disrupted', awaitsRetry: true })
    requests.retry(session)
    settle()
    expect(session.state).to.equal('published')
  })

  it('to retry resumes a session that lost its PostgreSQL while automatic resume is off', () => {
    settle()
    const manual = { ...POLICY, resume: { automatic: false, attempts: 2 } }
    transitions.partLost(session, { session: session.id, what: 'postgres', reason: 'gone' }, manual, NOW)
    expect(proceed()).to.equal(undefined)
    expect(session.state).to.equal('disrupted')
    requests.retry(session)
    expect(settle()).to.deep.equal(['run recover'])
  })

  it('to unpublish with its changes kept leaves a closed session that a retry publishes again', () => {
    settle()
    requests.unpublish(session, { keepCache: true })
    expect(stepInput(session).keepCache).to.equal(true)
    settle()
    expect(session.state).to.equal('closed')
    requests.retry(session)
    expect(session.request).to.deep.include({ backup: '20261122-055302F', options: { port: 54320 } })
    expect(settle()).to.deep.equal(['run resolve', 'run preflight', 'run mount', 'run recover'])
    expect(session.everPublished).to.equal(true)
  })

  it('to unpublish a closed session whose changes were kept removes them', () => {
    settle()
    requests.unpublish(session, { keepCache: true })
    settle()
    expect(isSettled(session)).to.equal(false)
    requests.unpublish(session, {})
    expect(stepInput(session)).not.to.have.property('keepCache')
    expect(settle()).to.deep.equal(['undo mount', 'undo preflight'])
    expect(session.state).to.equal('closed')
    expect(isSettled(session)).to.equal(true)
  })

  it('to unpublish supersedes one that keeps the changes, while that is in progress', () => {
    settle()
    requests.unpublish(session, { keepCache: true })
    expect(proceed()).to.equal('undo recover')
    finish({ undone: [] })
    expect(proceed()).to.equal('undo mount')
    requests.unpublish(session, {})
    expect(settle()).to.deep.equal(['undo mount', 'undo preflight'])
  })

  it('to unpublish removes kept changes when a retry did not get to the target', () => {
    settle()
    requests.unpublish(session, { keepCache: true })
    settle()
    requests.retry(session)
    expect(proceed()).to.equal('run resolve')
    requests.unpublish(session, {})
    expect(settle()).to.deep.equal(['undo mount', 'undo preflight'])
  })

  it('to republish a closed session removes its kept changes first', () => {
    settle()
    requests.unpublish(session, { keepCache: true })
    settle()
    requests.republish(session, requests.requestAgain(session, {}))
    expect(settle()).to.deep.equal([
      'undo mount',
      'undo preflight',
      'run resolve',
      'run preflight',
      'run mount',
      'run recover',
    ])
  })

  it('to keep changes is refused before the first publish, and while they are being removed', () => {
    expect(refusal(() => requests.unpublish(session, { keepCache: true }))).to.equal('session_state')
    settle()
    requests.unpublish(session, {})
    expect(refusal(() => requests.unpublish(session, { keepCache: true }))).to.equal('session_state')
  })

  it('to retry is refused for a closed session', () => {
    settle()
    requests.unpublish(session, {})
    settle()
    expect(refusal(() => requests.retry(session))).to.equal('session_state')
  })

  it('to cancel undoes a publish in progress, and the session fails as cancelled', () => {
    proceed()
    finish()
    proceed()
    requests.cancel(session)
    expect(settle()).to.deep.equal(['undo preflight'])
    expect(session).to.deep.include({
      state: 'failed',
      failure: { code: 'cancelled', message: 'the publishing was cancelled' },
    })
  })

  it('to cancel is refused when nothing is in progress, and where it would lose changes', () => {
    settle()
    expect(refusal(() => requests.cancel(session))).to.equal('session_state')
    transitions.partLost(session, { session: session.id, what: 'mount', reason: 'gone' }, POLICY, NOW)
    proceed()
    expect(refusal(() => requests.cancel(session))).to.equal('session_state')
  })

  it('to export is queued: exports of a session run one after the other', () => {
    settle()
    expect(requests.requestExport(session, exportRequest, NOW)).to.equal('e1')
    expect(requests.requestExport(session, exportRequest, NOW)).to.equal('e2')
    expect(proceed()).to.equal('run export')
    expect(session.state).to.equal('exporting')
    expect(stepInput(session).export).to.deep.equal({ id: 'e1', request: exportRequest })
    finish({ databases: [{ database: 'shop', status: 'done' }], manifest: '/srv/out/howdah-export.json' })
    expect(settle()).to.deep.equal(['run export'])
    expect(session.exports?.map(({ status }) => status)).to.deep.equal(['done', 'done'])
    expect(session.state).to.equal('published')
  })

  it('to export reports the databases that failed, and leaves the session published', () => {
    settle()
    requests.requestExport(session, exportRequest, NOW)
    proceed()
    const error = { code: 'export_failed' as const, message: 'crm: permission denied' }
    finish({
      databases: [
        { database: 'shop', status: 'done' },
        { database: 'crm', status: 'failed', error },
      ],
    })
    expect(session.exports?.[0]).to.deep.include({ status: 'failed' })
    expect(session.exports?.[0]?.error?.message).to.include('crm')
    expect(session.state).to.equal('published')
  })

  it('to export starts again after the mount was lost', () => {
    settle()
    requests.requestExport(session, exportRequest, NOW)
    proceed()
    transitions.partLost(session, { session: session.id, what: 'mount', reason: 'gone' }, POLICY, NOW)
    expect(settle()).to.deep.equal(['run mount', 'run recover', 'run export'])
  })

  it('to cancel is refused when the session has ended, and accepted again while it ends', () => {
    proceed()
    requests.cancel(session)
    requests.cancel(session)
    while (session.current) {
      finish()
      proceed()
    }
    expect(session.state).to.equal('failed')
    expect(refusal(() => requests.cancel(session))).to.equal('session_state')
    expect(() => requests.cancel(session)).to.throw('has ended: nothing is in progress')
  })

  it('to cancel an export leaves the session published', () => {
    settle()
    requests.requestExport(session, exportRequest, NOW)
    proceed()
    requests.cancel(session)
    expect(settle()).to.deep.equal(['undo export'])
    expect(session).to.include({ state: 'published' })
    expect(session.exports?.[0]?.status).to.equal('cancelled')
  })

  it('to unpublish stops an export first', () => {
    settle()
    requests.requestExport(session, exportRequest, NOW)
    requests.requestExport(session, exportRequest, NOW)
    proceed()
    requests.unpublish(session, {})
    expect(stepInput(session).export?.id).to.equal('e1')
    expect(settle()).to.deep.equal(['undo export', 'undo recover', 'undo mount', 'undo preflight'])
    expect(session.exports?.map(({ status }) => status)).to.deep.equal(['cancelled', 'cancelled'])
  })

  it('to publish for an export ends with the export, and fails when that failed', () => {
    for (const status of ['done', 'failed'] as const) {
      session = newSession('shop-abc234', session.request, 'backup-1', NOW)
      session.exportOnly = true
      requests.addExport(session, exportRequest, NOW)
      while (proceed() !== 'run export') finish()
      finish({ databases: [{ database: 'shop', status }] })
      settle()
      expect(session.state).to.equal(status === 'done' ? 'closed' : 'failed')
    }
  })

  it('to cancel a publish for an export undoes everything', () => {
    session.exportOnly = true
    requests.addExport(session, exportRequest, NOW)
    while (proceed() !== 'run export') finish()
    requests.cancel(session)
    expect(settle()).to.deep.equal(['undo export', 'undo recover', 'undo mount', 'undo preflight'])
    expect(session.state).to.equal('failed')
  })

  it('to promote or to advance repeats the recovery step, and is refused unless the recovery is paused', () => {
    settle()
    expect(refusal(() => requests.promote(session))).to.equal('session_state')
    const recover = { ...stepResults.recover, paused: { lsn: '0/3000148' } }
    session.results = { ...session.results, recover }
    requests.advance(session, { type: 'lsn', value: '0/4000000' })
    expect(proceed()).to.equal('run recover')
    expect(stepInput(session).recoverTo).to.deep.equal({ type: 'lsn', value: '0/4000000' })
    finish(recover)
    requests.promote(session)
    expect(settle()).to.deep.equal(['run recover'])
    expect(session.request.options.afterRecovery).to.equal('promote')
  })

  it('to advance to an unreachable target leaves the recovery paused where it was, with a warning', () => {
    settle()
    const recover = { ...stepResults.recover, paused: { lsn: '0/3000148' } }
    const resolve = { ...stepResults.resolve, recoverTo: { type: 'immediate' as const } }
    session.results = { ...session.results, resolve, recover }
    requests.advance(session, { type: 'lsn', value: '0/2000000' })
    proceed()
    fail('target_unreachable')
    expect(proceed()).to.equal(undefined)
    expect(session.state).to.equal('published')
    expect(session.request.recoverTo).to.deep.equal({ type: 'latest' })
    expect(session.results.recover?.paused).to.deep.equal({ lsn: '0/3000148' })
    expect(session.results.resolve?.recoverTo).to.deep.equal({ type: 'immediate' })
    expect(session.warnings).to.include('recover broke')
  })

  it('to extend a session sets when it expires, with warnings before', () => {
    settle()
    requests.extend(session, 4 * 3600, NOW)
    const passed = (at: string): string[] =>
      transitions.timePassed(session, at).map(({ about, level }) => `${about} ${level}`)
    expect(passed('2026-11-22T08:00:00.000Z')).to.deep.equal([])
    expect(passed('2026-11-22T09:00:00.000Z')).to.deep.equal(['expiry low'])
    expect(passed('2026-11-22T09:50:00.000Z')).to.deep.equal(['expiry critical'])
    requests.extend(session, 4 * 3600, '2026-11-22T09:50:00.000Z')
    expect(passed('2026-11-22T10:00:00.000Z')).to.deep.equal(['expiry cleared'])
    passed('2026-11-22T13:50:00.000Z')
    settle()
    expect(session.state).to.equal('closed')
  })
})
