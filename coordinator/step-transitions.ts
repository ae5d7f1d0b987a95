/**
 * What a step that is sent, reported on, done or failed changes in its session. Pure functions on a session that the
 * caller owns; the planner decides afterwards what follows. Every one is safe to apply twice: a stale or repeated event
 * changes nothing.
 */
import type { EventBody } from '../messages/definitions.ts'
import { type ErrorBody, type ErrorCode, isRetryable } from '../messages/errors.ts'
import { STEP_RESULTS, UndoResult } from '../messages/steps.ts'
import { type PublishStep, StepName } from '../messages/values.ts'
import { exportEnded, exportFailed, exportReported } from './export-transitions.ts'
import { LEAVES_TRACES } from './planner.ts'
import { attemptsExhausted, type RetryPolicy, retryTime } from './retry-policy.ts'
import { addUndone, addWarnings, dropResults, resetFailures, type Session } from './session.ts'
import { parseResult } from './step-result.ts'

type StepEvent = { step: StepName; direction: 'run' | 'undo'; sequence: number }

/** Makes the step that the planner chose the current one, about to be sent. */
export function beginStep(session: Session, step: StepName, direction: 'run' | 'undo', now: string): void {
  settleCurrent(session, 'failed', now, superseded)
  session.sequence += 1
  session.retryAt = undefined
  session.current = {
    step,
    direction,
    sequence: session.sequence,
    status: 'sent',
    startedAt: now,
    heardAt: now,
  }
  if (direction === 'run' && LEAVES_TRACES[step] && !session.begun.includes(step)) session.begun.push(step)
}

const superseded: ErrorBody = { code: 'session_state', message: 'superseded by a later command' }

/** Progress is saved at most this often, because each change of a session costs a durable write. Milliseconds. */
const KEEP_PROGRESS_MS = 1_000

/** `session.step-started` and `session.step-progress`. */
export function stepReported(
  session: Session,
  event: Partial<EventBody<'session.step-progress'>> & StepEvent,
  now: string,
): void {
  if (!isCurrent(session, event)) return
  const { status, heardAt } = session.current
  if (status === 'running' && Date.parse(now) - Date.parse(heardAt) < KEEP_PROGRESS_MS) return
  if (event.step === 'export' && event.direction === 'run') exportReported(session, event)
  const { detail, bytesDone, bytesTotal } = event
  if (isObstacle(session.error)) session.error = undefined
  session.current = {
    ...session.current,
    status: 'running',
    heardAt: now,
    ...(detail !== undefined && { detail }),
    ...(bytesDone !== undefined && { bytesDone }),
    ...(bytesTotal !== undefined && { bytesTotal }),
  }
}

/**
 * The journal of the agent is ahead of this store, which was restored from a backup: counting goes on from there, and the
 * step is planned again.
 */
export function stepRefused(session: Session, event: EventBody<'session.step-refused'>, now: string): void {
  if (!isCurrent(session, event)) return
  session.sequence = Math.max(session.sequence, event.highest)
  settleCurrent(session, 'failed', now, {
    code: 'session_state',
    message: `the agent knows ${event.highest} steps of this session; the step is sent again under a number of its own`,
  })
}

/** @throws HowdahError `invalid_message` when an agent's result does not have the shape of its step */
export function stepDone(session: Session, event: EventBody<'session.step-done'>, now: string): void {
  if (!isCurrent(session, event)) return
  const { step } = event
  if (step === 'export') {
    exportEnded(session, event, now)
  } else {
    publishStepDone(session, step, event)
  }
  if (!precedesFailedStep(session, event)) resetFailures(session)
  session.error = undefined
  settleCurrent(session, 'done', now)
}

/** A step that is only repeated because a later one failed does not reset the failures of that one. */
function precedesFailedStep({ stepToRetry }: Session, { step, direction }: StepEvent): boolean {
  const order = StepName.options
  return direction === 'run' && stepToRetry !== undefined && order.indexOf(step) < order.indexOf(stepToRetry)
}

function publishStepDone(session: Session, step: PublishStep, event: EventBody<'session.step-done'>): void {
  switch (event.direction) {
    case 'run': {
      const result = parseResult(STEP_RESULTS[step], event)
      session.results = { ...session.results, [step]: result }
      if ('warnings' in result) addWarnings(session, result.warnings ?? [])
      if (step === 'recover') {
        session.everPublished = true
        session.pausedRecovery = undefined
      }
      break
    }
    case 'undo': {
      addUndone(session, parseResult(UndoResult, event).undone)
      session.begun = session.begun.filter((name) => name !== step)
      session.results = { ...session.results, [step]: undefined }
      break
    }
    default:
      event.direction satisfies never
  }
}

/** Retries the step, waits for an operator, or gives the publish up, as the error and the policy demand. */
export function stepFailed(
  session: Session,
  event: EventBody<'session.step-failed'>,
  policy: RetryPolicy,
  now: number,
  random: () => number,
): void {
  if (!isCurrent(session, event)) return
  const { error, direction } = event
  const time = new Date(now).toISOString()
  settleCurrent(session, 'failed', time, error)
  session.failures += 1
  if (event.step === 'export' && direction === 'run') {
    const retries = isRetryable(error) && session.failures < policy.attempts
    if (retries) session.retryAt = retryTime(session, policy, now, random)
    else exportFailed(session, error, time)
    return
  }
  session.error = error
  if (error.code === 'target_unreachable' && session.pausedRecovery) {
    restorePausedRecovery(session, session.pausedRecovery, error)
    return
  }
  const lost = lostStep(session, event)
  if (lost) dropResults(session, lost)
  if (lost && lost !== event.step) session.stepToRetry = event.step
  const transient = (lost || isRetryable(error)) && session.failures < policy.attempts
  // An undo, and a session that holds changes, are never given up: they are retried until the cause is repaired.
  if (direction === 'run' && session.everPublished && attemptsExhausted(session, policy)) {
    session.awaitsRetry = true
    return
  }
  if (direction === 'undo' || session.everPublished || transient) {
    session.retryAt = retryTime(session, policy, now, random)
    return
  }
  session.failure = error
  session.error = undefined
  session.desired = 'absent'
  resetFailures(session)
}

/** The earlier step that turned out to be in effect no longer: it and all later ones are repeated. */
function lostStep(
  session: Session,
  { step, error }: EventBody<'session.step-failed'>,
): PublishStep | undefined {
  if (error.code === 'mount_failed') return 'mount'
  // Another process took the port. A port that no client asked for or was given can be replaced by another.
  const anyPort = session.request.options.port === undefined && !session.everPublished
  return error.code === 'port_taken' && step === 'recover' && anyPort ? 'preflight' : undefined
}

/** The paused recovery cannot be moved to the requested target: it stays paused where it is, with a warning. */
function restorePausedRecovery(
  session: Session,
  { recoverTo, resolve, recover }: NonNullable<Session['pausedRecovery']>,
  error: ErrorBody,
): void {
  session.request = { ...session.request, recoverTo }
  session.results = { ...session.results, ...(resolve && { resolve }), recover }
  session.pausedRecovery = undefined
  session.error = undefined
  resetFailures(session)
  addWarnings(session, [error.message])
}

/** The agent of the current step cannot be given commands, for this reason, if there is one by now. */
export function agentAway(session: Session, obstacle: ErrorBody | undefined): void {
  if (!session.current || !obstacle || session.error?.code === obstacle.code) return
  session.error = obstacle
}

const OBSTACLES: readonly ErrorCode[] = ['agent_offline', 'agent_incompatible', 'certificate_revoked']

/** Whether an error says that an agent cannot be given commands, which nobody can mend but that agent. */
export function isObstacle(error: ErrorBody | undefined): boolean {
  return error !== undefined && OBSTACLES.includes(error.code)
}

/** The current step is sent again: no report on it came for long, or its agent is connected again. */
export function stepResent(session: Session, now: string): void {
  if (!session.current) return
  session.current = { ...session.current, heardAt: now }
  if (isObstacle(session.error)) session.error = undefined
}

function isCurrent(
  session: Session,
  event: StepEvent,
): session is Session & { current: NonNullable<Session['current']> } {
  const { current } = session
  return (
    current !== undefined &&
    current.step === event.step &&
    current.direction === event.direction &&
    current.sequence === event.sequence
  )
}

/** Moves the current step into the list of steps that were done, bounded so that endless retries do not grow it. */
function settleCurrent(
  session: Session,
  status: 'done' | 'failed',
  finishedAt: string,
  error?: ErrorBody,
): void {
  if (!session.current) return
  const { heardAt: _, ...report } = session.current
  session.steps.push({ ...report, status, finishedAt, ...(error && { error }) })
  if (session.steps.length > MAX_STEP_REPORTS) session.steps.splice(1, 1)
  session.current = undefined
}

const MAX_STEP_REPORTS = 100
