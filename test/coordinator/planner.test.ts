import { expect } from 'chai'
import fc from 'fast-check'
import { plan, stateOf } from '../../coordinator/planner.ts'
import * as requests from '../../coordinator/requests.ts'
import type { RetryPolicy } from '../../coordinator/retry-policy.ts'
import { newSession, type Session } from '../../coordinator/session.ts'
import { sessionView } from '../../coordinator/session-view.ts'
import * as steps from '../../coordinator/step-transitions.ts'
import * as transitions from '../../coordinator/transitions.ts'
import type { EventBody } from '../../messages/definitions.ts'
import type { ErrorCode } from '../../messages/errors.ts'
import { SessionView, STEPS, type StepName } from '../../messages/values.ts'
import { stepResults } from './step-results.ts'

const NOW = '2026-11-22T06:00:00.000Z'
const POLICY: RetryPolicy = {
  attempts: 3,
  firstDelayMs: 1000,
  maxDelayMs: 60_000,
  resume: { automatic: true, attempts: 10 },
}
const request = {
  repository: 'main',
  instance: 'shop',
  backup: 'latest',
  recoverTo: { type: 'latest' as const },
  target: 'db-7',
  options: {},
}

const fresh = (): Session => newSession('shop-abc234', request, 'backup-1', NOW)

/** Lets the planner choose and begins what it chose. */
function advance(session: Session, now = Date.parse(NOW)): ReturnType<typeof plan> {
  const next = plan(session, now)
  if (next.action === 'send') steps.beginStep(session, next.step, next.direction, NOW)
  session.state = stateOf(session)
  return next
}

function finish(session: Session, result?: Record<string, unknown>): void {
  const { current } = session
  if (!current) throw new Error('no step is in progress')
  const { step, direction, sequence } = current
  const given = result ?? (direction === 'run' ? stepResults[step] : { undone: [`undid ${step}`] })
  steps.stepDone(session, { session: session.id, step, direction, sequence, result: given }, NOW)
  session.state = stateOf(session)
}

function fail(session: Session, code: ErrorCode): void {
  const { current } = session
  if (!current) throw new Error('no step is in progress')
  const { step, direction, sequence } = current
  const error = { code, message: `${step} broke` }
  const event = { session: session.id, step, direction, sequence, error }
  steps.stepFailed(session, event, POLICY, Date.parse(NOW), () => 0.5)
  session.state = stateOf(session)
}

function published(): Session {
  const session = fresh()
  while (advance(session).action === 'send') finish(session)
  return session
}

describe('the session planner', () => {
  it('runs the steps in order until the instance is published', () => {
    const session = fresh()
    const seen: string[] = []
    while (advance(session).action === 'send') {
      seen.push(`${session.state}: ${session.current?.step}`)
      finish(session)
    }
    expect(seen).to.deep.equal([
      'validating: resolve',
      'validating: preflight',
      'mounting: mount',
      'recovering: recover',
    ])
    expect(session.state).to.equal('published')
  })

  it('waits for the agent while a step is in progress', () => {
    const session = fresh()
    advance(session)
    expect(advance(session)).to.deep.equal({ action: 'await-agent' })
  })

  it('undoes the steps in reverse order until the session is closed', () => {
    const session = published()
    requests.unpublish(session, {})
    const undone: (StepName | undefined)[] = []
    while (advance(session).action === 'send') {
      undone.push(session.current?.step)
      finish(session)
    }
    expect(undone).to.deep.equal(['recover', 'mount', 'preflight'])
    expect(session.state).to.equal('closed')
    expect(session.undone).to.deep.equal(['undid recover', 'undid mount', 'undid preflight'])
  })

  it('undoes a step that still runs when the session is unpublished', () => {
    const session = fresh()
    for (const _ of ['resolve', 'preflight']) {
      advance(session)
      finish(session)
    }
    advance(session)
    expect(session.current?.step).to.equal('mount')
    requests.unpublish(session, {})
    expect(advance(session)).to.deep.equal({ action: 'send', step: 'mount', direction: 'undo' })
  })

  it('tears down and fails when a step fails for a permanent reason', () => {
    const session = fresh()
    advance(session)
    finish(session)
    advance(session)
    fail(session, 'port_taken')
    expect(session.state).to.equal('unpublishing')
    advance(session)
    expect(session.current).to.include({ step: 'preflight', direction: 'undo' })
    finish(session)
    expect(session.state).to.equal('failed')
    expect(sessionView(session).error).to.deep.include({ code: 'port_taken' })
  })

  it('fails a publish at the first error that a retry cannot help', () => {
    const session = fresh()
    for (const _ of ['resolve', 'preflight', 'mount']) {
      advance(session)
      finish(session)
    }
    advance(session)
    fail(session, 'internal')
    expect(session.retryAt).to.equal(undefined)
    while (advance(session).action === 'send') finish(session)
    expect(session.state).to.equal('failed')
    expect(
      session.steps.filter(({ direction, status }) => direction === 'run' && status === 'failed'),
    ).to.have.length(1)
  })

  it('retries a step that failed for a transient reason, with growing delays, a limited number of times', () => {
    const session = fresh()
    const delays: number[] = []
    let now = Date.parse(NOW)
    for (;;) {
      advance(session, now)
      fail(session, 'repository_unavailable')
      if (session.failure) break
      expect(session.state).to.equal('disrupted')
      expect(plan(session, now)).to.deep.equal({ action: 'await-retry' })
      const retryAt = Date.parse(session.retryAt ?? '')
      delays.push(retryAt - Date.parse(NOW))
      now = retryAt
    }
    expect(delays).to.deep.equal([1000, 2000])
    expect(session.state).to.equal('failed')
  })

  it('never tears down a session that was published, whatever fails', () => {
    const session = published()
    transitions.partLost(session, { session: session.id, what: 'mount', reason: 'killed' }, POLICY, NOW)
    for (let round = 0; round < 10; round++) {
      advance(session, Number.MAX_SAFE_INTEGER)
      fail(session, 'postgres_failed')
      expect(session.desired).to.equal('published')
      expect(session.state).to.equal('disrupted')
    }
  })

  it('does not take a loss that a later step has mended for a new one, unless the agent cannot know better', () => {
    const session = published()
    const { sequence = 0 } = session.steps.at(-1) ?? {}
    const lost = (afterStep: number | undefined, now = NOW): boolean => {
      const copy = structuredClone(session)
      const event = { session: session.id, what: 'postgres', reason: 'gone', afterStep } as const
      transitions.partLost(copy, event, POLICY, now)
      return copy.results.recover === undefined
    }
    expect(lost(sequence - 1)).to.equal(false)
    expect(lost(sequence)).to.equal(true)
    expect(lost(undefined)).to.equal(true)
    // The journal was lost with the counting of its steps, or the store is a restored one.
    expect(lost(sequence - 1, new Date(Date.parse(NOW) + 61_000).toISOString())).to.equal(true)
    expect(lost(sequence + 9)).to.equal(true)
  })

  it('repeats mount and recovery after the mount was lost, and recovery alone after PostgreSQL was lost', () => {
    for (const [what, expected] of [
      ['mount', ['mount', 'recover']],
      ['postgres', ['recover']],
    ] as const) {
      const session = published()
      transitions.partLost(session, { session: session.id, what, reason: 'gone' }, POLICY, NOW)
      expect(stateOf(session)).to.equal('disrupted')
      const steps: (StepName | undefined)[] = []
      while (advance(session).action === 'send') {
        steps.push(session.current?.step)
        finish(session)
      }
      expect(steps).to.deep.equal(expected)
      expect(session.state).to.equal('published')
    }
  })

  it('mounts again when recovery finds its mount gone', () => {
    const session = fresh()
    while (advance(session).action === 'send' && session.current?.step !== 'recover') finish(session)
    fail(session, 'mount_failed')
    advance(session, Number.MAX_SAFE_INTEGER)
    expect(session.current).to.include({ step: 'mount', direction: 'run' })
  })

  it('chooses another port when the port was taken meanwhile, unless a client asked for that port', () => {
    const session = fresh()
    while (advance(session).action === 'send' && session.current?.step !== 'recover') finish(session)
    fail(session, 'port_taken')
    const seen: (StepName | undefined)[] = []
    while (advance(session, Number.MAX_SAFE_INTEGER).action === 'send') {
      seen.push(session.current?.step)
      finish(session)
    }
    expect(seen).to.deep.equal(['preflight', 'mount', 'recover'])
    expect(session.state).to.equal('published')

    const asking = newSession('shop-abc234', { ...request, options: { port: 5433 } }, 'backup-1', NOW)
    while (advance(asking).action === 'send' && asking.current?.step !== 'recover') finish(asking)
    fail(asking, 'port_taken')
    expect(asking.state).to.equal('unpublishing')
  })

  it('counts the failures of a step on while earlier steps are repeated for it', () => {
    for (const code of ['mount_failed', 'port_taken'] as const) {
      const session = fresh()
      let failures = 0
      while (advance(session, Number.MAX_SAFE_INTEGER).action === 'send' && !session.failure) {
        if (session.current?.step === 'recover') {
          fail(session, code)
          failures += 1
        } else finish(session)
      }
      expect(failures, code).to.equal(POLICY.attempts)
    }
  })

  it('ignores events of a step that is no longer the current one', () => {
    const session = fresh()
    advance(session)
    const { sequence } = session.current ?? { sequence: 0 }
    finish(session)
    advance(session)
    const before = JSON.stringify(session)
    const stale = { session: session.id, step: 'resolve' as const, direction: 'run' as const, sequence }
    steps.stepDone(session, { ...stale, result: stepResults.resolve }, NOW)
    steps.stepReported(session, stale, NOW)
    steps.stepFailed(
      session,
      { ...stale, error: { code: 'internal', message: 'late' } },
      POLICY,
      Date.parse(NOW),
      () => 0.5,
    )
    expect(JSON.stringify(session)).to.equal(before)
  })

  it('refuses a result that does not match the schema of its step', () => {
    const session = fresh()
    advance(session)
    expect(() => finish(session, { backup: 7 }))
      .to.throw(/resolve/)
      .with.property('code', 'invalid_message')
  })

  it('ends in published, closed or failed after any sequence of faults, once agents respond', () => {
    const fault = fc.oneof(
      fc.record({ kind: fc.constant('done' as const) }),
      fc.record({
        kind: fc.constant('fail' as const),
        code: fc.constantFrom<ErrorCode>(
          'port_taken',
          'internal',
          'operation_failed',
          'mount_failed',
          'postgres_failed',
        ),
      }),
      fc.record({
        kind: fc.constant('lost' as const),
        what: fc.constantFrom('mount' as const, 'postgres' as const),
      }),
      fc.record({ kind: fc.constant('unpublish' as const) }),
      fc.record({ kind: fc.constant('away' as const) }),
      fc.record({ kind: fc.constant('restart' as const) }),
    )
    fc.assert(
      fc.property(fc.array(fault, { maxLength: 40 }), (faults) => {
        let session = fresh()
        const late = Number.MAX_SAFE_INTEGER
        for (const event of faults) {
          advance(session, late)
          if (event.kind === 'done' && session.current) finish(session)
          if (event.kind === 'fail' && session.current) fail(session, event.code)
          if (event.kind === 'lost') {
            const lost: EventBody<'session.lost'> = { session: session.id, what: event.what, reason: 'gone' }
            transitions.partLost(session, lost, POLICY, NOW)
          }
          if (event.kind === 'unpublish') requests.unpublish(session, {})
          if (event.kind === 'away')
            steps.agentAway(session, { code: 'agent_offline', message: 'db-7 is not connected' })
          if (event.kind === 'restart') session = JSON.parse(JSON.stringify(session)) as Session
        }
        for (let step = 0; step < 2 * STEPS.length && advance(session, late).action !== 'rest'; step++) {
          finish(session)
        }
        expect(session.state).to.be.oneOf(['published', 'closed', 'failed'])
        if (session.state !== 'published') expect(session.begun).to.deep.equal([])
        SessionView.parse(sessionView(session))
      }),
      { numRuns: 500 },
    )
  })
})
