/**
 * What each thing that happens changes in a session. Pure functions on a session that the caller owns; the planner
 * decides afterwards what follows. Every one is safe to apply twice: a stale or repeated event changes nothing.
 */
import { z } from 'zod'
import { backoffMs } from '../messages/backoff.ts'
import type { EventBody } from '../messages/definitions.ts'
import { type ErrorBody, HowdahError, isRetryable } from '../messages/errors.ts'
import type { DatabaseExport } from '../messages/exports.ts'
import { STEP_RESULTS, UndoResult } from '../messages/steps.ts'
import { type PublishStep, type SpaceWarning, STEPS, StepName, type Usage } from '../messages/values.ts'
import { dueExport, LEAVES_TRACES } from './planner.ts'
import { unpublish } from './requests.ts'
import { type ExportJob, endFailures, type Session } from './session.ts'
import { newExpiryWarnings, newSpaceWarnings } from './warnings.ts'

export interface RetryPolicy {
  /** How often a step that failed for a passing reason is tried before the session fails. */
  readonly attempts: number
  readonly firstDelayMs: number
  readonly maxDelayMs: number
  /** Sessions that were published before. */
  readonly resume: {
    /** Whether a session that lost a part goes on by itself. */
    readonly automatic: boolean
    /** Failures in a row of one step after which it waits for somebody. */
    readonly attempts: number
  }
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
  if (event.step === 'export' && event.direction === 'run') exportReported(session, event)
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
  if (step === 'export') {
    exportEnded(session, event, now)
  } else {
    publishStepDone(session, step, event)
  }
  if (!leadsBack(session, event)) endFailures(session)
  session.error = undefined
  settleCurrent(session, 'done', now)
}

/** What is done again for a later step that failed does not end that one's row of failures. */
function leadsBack({ redoneFor }: Session, { step, direction }: StepEvent): boolean {
  const order = StepName.options
  return direction === 'run' && redoneFor !== undefined && order.indexOf(step) < order.indexOf(redoneFor)
}

function publishStepDone(session: Session, step: PublishStep, event: EventBody<'session.step-done'>): void {
  switch (event.direction) {
    case 'run': {
      const result = parseResult(STEP_RESULTS[step], event)
      session.results = { ...session.results, [step]: result }
      if ('warnings' in result) addWarnings(session, result.warnings ?? [])
      if (step === 'recover') {
        session.everPublished = true
        session.standing = undefined
      }
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
}

/** The step `export` was done, or taken back because somebody cancelled it. */
function exportEnded(session: Session, event: EventBody<'session.step-done'>, now: string): void {
  session.begun = session.begun.filter((name) => name !== 'export')
  if (event.direction === 'undo') {
    session.undone.push(...parseResult(UndoResult, event).undone)
    settleExport(session, now, { status: 'cancelled' })
    return
  }
  const { databases, manifest, notes } = parseResult(STEP_RESULTS.export, event)
  const failed = databases.filter(({ status }) => status !== 'done')
  settleExport(session, now, {
    status: failed.length > 0 ? 'failed' : 'done',
    databases,
    ...(manifest !== undefined && { manifest }),
    ...(notes !== undefined && { notes }),
    ...(failed.length > 0 && { error: exportError(failed) }),
  })
}

function exportError(failed: readonly DatabaseExport[]): ErrorBody {
  const names = failed.map(({ database }) => database).join(', ')
  const details = failed.map(({ error }) => error).filter((error) => error !== undefined)
  return {
    code: 'export_failed',
    message: `not exported: ${names}. ${details[0]?.message ?? ''}`.trim(),
    ...(details.length > 0 && { details }),
  }
}

/** The export under way has ended. An errand has then done what it was published for. */
function settleExport(session: Session, now: string, end: Partial<ExportJob>): void {
  const due = dueExport(session)
  if (!due) return
  const ended: ExportJob = { ...due, ...end, finishedAt: now }
  session.exports = (session.exports ?? []).map((job) => (job.id === due.id ? ended : job))
  if (!session.errand || session.desired === 'absent') return
  session.desired = 'absent'
  if (ended.error) session.failure = ended.error
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
  if (event.step === 'export' && direction === 'run') {
    const again = isRetryable(error) && session.failures < policy.attempts
    if (again) session.retryAt = delayed(session, policy, now, random)
    else exportFailed(session, error, time)
    return
  }
  session.error = error
  if (error.code === 'target_unreachable' && session.standing) {
    stayWhereItStands(session, session.standing, error)
    return
  }
  const lost = lostStep(session, event)
  if (lost) takeOut(session, lost)
  if (lost && lost !== event.step) session.redoneFor = event.step
  const passing = (lost || isRetryable(error)) && session.failures < policy.attempts
  // An undo and a session that holds changes are never given up: they are tried until somebody mends the cause.
  if (direction === 'run' && session.everPublished && exhausted(session, policy)) {
    session.awaitsRetry = true
    return
  }
  if (direction === 'undo' || session.everPublished || passing) {
    session.retryAt = delayed(session, policy, now, random)
    return
  }
  session.failure = error
  session.error = undefined
  session.desired = 'absent'
  endFailures(session)
}

/** The earlier step that the failed one found to be in effect no longer: what is from there on is done again. */
function lostStep(
  session: Session,
  { step, error }: EventBody<'session.step-failed'>,
): PublishStep | undefined {
  if (error.code === 'mount_failed') return 'mount'
  // Somebody was faster. Where nobody asked for that port or knows of it, another does as well.
  const anyPort = session.request.options.port === undefined && !session.everPublished
  return error.code === 'port_taken' && step === 'recover' && anyPort ? 'preflight' : undefined
}

/** The step is in effect no longer, and none after it. */
function takeOut(session: Session, step: PublishStep): void {
  for (const gone of STEPS.slice(STEPS.indexOf(step))) session.results[gone] = undefined
}

/** A paused recovery cannot be moved to the target that somebody gave: it stays paused where it is. */
function stayWhereItStands(
  session: Session,
  { recoverTo, resolve, recover }: NonNullable<Session['standing']>,
  error: ErrorBody,
): void {
  session.request = { ...session.request, recoverTo }
  session.results = { ...session.results, ...(resolve && { resolve }), recover }
  session.standing = undefined
  session.error = undefined
  endFailures(session)
  addWarnings(session, [error.message])
}

function exhausted({ failures }: Session, { resume }: RetryPolicy): boolean {
  return !resume.automatic || failures >= resume.attempts
}

function delayed({ failures }: Session, policy: RetryPolicy, now: number, random: () => number): string {
  const { firstDelayMs: firstMs, maxDelayMs: maxMs } = policy
  return new Date(now + backoffMs(failures, { firstMs, maxMs, jitter: 'spread' }, random)).toISOString()
}

/** An export is not worth more than the session: what cannot be exported leaves the instance as it is. */
function exportFailed(session: Session, error: ErrorBody, now: string): void {
  endFailures(session)
  session.begun = session.begun.filter((name) => name !== 'export')
  settleExport(session, now, { status: 'failed', error })
}

/** `session.usage`. @returns the warnings that it gives rise to, for announcing; none when it is repeated */
export function usageReported(session: Session, usage: Usage, now: string): SpaceWarning[] {
  session.usage = usage
  return keepWarnings(session, newSpaceWarnings(session.warningHistory ?? [], usage, now))
}

/** Time passed. At the end of its time a session is unpublished. @returns warnings for announcing */
export function timePassed(session: Session, now: string): SpaceWarning[] {
  const { expires, desired } = session
  if (desired === 'absent') return []
  const raised = keepWarnings(session, newExpiryWarnings(session.warningHistory ?? [], expires, now))
  if (expires && Date.parse(expires.at) <= Date.parse(now)) {
    addWarnings(session, [`The time that the session was given was over at ${expires.at}.`])
    unpublish(session, {})
  }
  return raised
}

function keepWarnings(session: Session, raised: SpaceWarning[]): SpaceWarning[] {
  if (raised.length > 0) {
    session.warningHistory = [...(session.warningHistory ?? []), ...raised].slice(-MAX_WARNINGS)
  }
  return raised
}

/** The mount or PostgreSQL of a published session is gone: what depended on it is to be done again. */
export function partLost(
  session: Session,
  event: EventBody<'session.lost'>,
  { resume }: Pick<RetryPolicy, 'resume'>,
): void {
  if (session.desired !== 'published' || session.results.recover === undefined) return
  takeOut(session, event.what === 'mount' ? 'mount' : 'recover')
  session.error = {
    code: event.what === 'mount' ? 'mount_failed' : 'postgres_failed',
    message: event.reason,
  }
  if (!resume.automatic) session.awaitsRetry = true
}

/** `session.reachability`: the target can, or cannot, reach the mount server. */
export function reachabilityReported(session: Session, event: EventBody<'session.reachability'>): void {
  const { session: _, ...reachability } = event
  session.reachability = reachability.reachable ? undefined : reachability
}

/** Progress of the export under way; what of it is kept shows in the session. */
function exportReported(session: Session, event: Partial<EventBody<'session.step-progress'>>): void {
  const due = dueExport(session)
  if (!due) return
  const { detail, databases = due.databases } = event
  const job: ExportJob = { ...due, status: 'running', databases, ...(detail !== undefined && { detail }) }
  session.exports = (session.exports ?? []).map((one) => (one.id === due.id ? job : one))
}

/** The agent of the current step is not connected; its command waits in its queue. It may have ended since that was seen. */
export function agentAway(session: Session, agent: { kind: string; name: string }): void {
  if (!session.current || session.error?.code === 'agent_offline') return
  session.error = {
    code: 'agent_offline',
    message: `the ${agent.kind} agent "${agent.name}" is not connected; the session goes on when it is back`,
  }
}

/** Nobody reported on the current step for long: it counts as sent anew. */
export function currentRenewed(session: Session, sequence: number, now: string): void {
  if (session.current?.sequence === sequence) session.current = { ...session.current, heardAt: now }
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
