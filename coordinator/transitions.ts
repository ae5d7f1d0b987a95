/**
 * What each thing that happens changes in a session. Pure functions on a session that the caller owns; the planner
 * decides afterwards what follows. Every one is safe to apply twice: a stale or repeated event changes nothing.
 */
import { z } from 'zod'
import type { EventBody } from '../messages/definitions.ts'
import { ERROR_CODES, type ErrorBody, HowdahError } from '../messages/errors.ts'
import { STEP_RESULTS, UndoResult } from '../messages/steps.ts'
import { type SpaceWarning, STEPS, type StepName, type Usage } from '../messages/values.ts'
import { LEAVES_TRACES } from './planner.ts'
import type { Session } from './session.ts'
import { newWarnings } from './space-warnings.ts'

export interface RetryPolicy {
  /** How often a step that failed for a passing reason is tried before the session fails. */
  readonly attempts: number
  readonly firstDelayMs: number
  readonly maxDelayMs: number
}

type StepEvent = { step: StepName; direction: 'run' | 'undo'; sequence: number }

/** The planner chose this step: it becomes the current one, about to be sent. */
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

/** Progress is kept at most this often: every change of a session is one more durable write. Milliseconds. */
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
  const { detail, bytesDone, bytesTotal } = event
  if (session.error?.code === 'agent_offline') session.error = undefined
  session.current = {
    ...session.current,
    status: 'running',
    heardAt: now,
    ...(detail !== undefined && { detail }),
    ...(bytesDone !== undefined && { bytesDone }),
    ...(bytesTotal !== undefined && { bytesTotal }),
  }
}

/** @throws HowdahError `invalid_message` when an agent's result does not have the shape of its step */
export function stepDone(session: Session, event: EventBody<'session.step-done'>, now: string): void {
  if (!isCurrent(session, event)) return
  const { step } = event
  switch (event.direction) {
    case 'run': {
      const result = parseResult(STEP_RESULTS[step], event)
      session.results = { ...session.results, [step]: result }
      if ('warnings' in result) addWarnings(session, result.warnings)
      if (step === STEPS.at(-1)) session.everPublished = true
      break
    }
    case 'undo': {
      session.undone.push(...parseResult(UndoResult, event).undone)
      session.begun = session.begun.filter((name) => name !== step)
      session.results = { ...session.results, [step]: undefined }
      break
    }
    default:
      event.direction satisfies never
  }
  session.failures = 0
  session.error = undefined
  settleCurrent(session, 'done', now)
}

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
  session.error = error
  // The step found that one before it is no longer in effect.
  if (error.code === 'mount_failed') session.results = { ...session.results, mount: undefined }
  const passing = ERROR_CODES[error.code].retryable && session.failures < policy.attempts
  // An undo and a session that holds changes are never given up: they are tried until somebody mends the cause.
  if (direction === 'undo' || session.everPublished || passing) {
    const delay = Math.min(policy.maxDelayMs, policy.firstDelayMs * 2 ** (session.failures - 1))
    session.retryAt = new Date(now + delay * (0.75 + random() / 2)).toISOString()
    return
  }
  session.failure = error
  session.error = undefined
  session.desired = 'absent'
  session.failures = 0
}

/** `session.usage`. @returns the warnings that it gives rise to, for announcing; none when it is repeated */
export function usageReported(session: Session, usage: Usage, now: string): SpaceWarning[] {
  session.usage = usage
  const history = session.warningHistory ?? []
  const raised = newWarnings(history, usage, now)
  if (raised.length > 0) session.warningHistory = [...history, ...raised].slice(-MAX_WARNINGS)
  return raised
}

/** The mount or PostgreSQL of a published session is gone: what depended on it is to be done again. */
export function partLost(session: Session, event: EventBody<'session.lost'>): void {
  if (session.desired !== 'published' || session.results.recover === undefined) return
  const results = { ...session.results, recover: undefined }
  session.results = event.what === 'mount' ? { ...results, mount: undefined } : results
  session.error = {
    code: event.what === 'mount' ? 'mount_failed' : 'postgres_failed',
    message: event.reason,
  }
}

/** The agent of the current step is not connected; its command waits in its queue. */
export function agentAway(session: Session, agent: { kind: string; name: string }): void {
  if (session.error?.code === 'agent_offline') return
  session.error = {
    code: 'agent_offline',
    message: `the ${agent.kind} agent "${agent.name}" is not connected; the session goes on when it is back`,
  }
}

/** Nobody reported on the current step for long: it counts as sent anew. */
export function currentRenewed(session: Session, sequence: number, now: string): void {
  if (session.current?.sequence === sequence) session.current = { ...session.current, heardAt: now }
}

/** Somebody asked for the end of the session. */
export function unpublishRequested(session: Session): void {
  if (session.desired === 'absent') return
  session.desired = 'absent'
  session.failures = 0
  session.retryAt = undefined
  session.error = undefined
}

export function addWarnings(session: Session, warnings: readonly string[]): void {
  session.warnings.push(...warnings.filter((warning) => !session.warnings.includes(warning)))
}

function parseResult<T extends z.ZodType>(schema: T, event: EventBody<'session.step-done'>): z.infer<T> {
  const parsed = schema.safeParse(event.result)
  if (parsed.success) return parsed.data
  throw new HowdahError(
    'invalid_message',
    `the result of ${event.direction} ${event.step} has not the shape of its step: ${z.prettifyError(parsed.error)}`,
  )
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
const MAX_WARNINGS = 100
