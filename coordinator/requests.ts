/**
 * What each command changes in a session. Pure functions on a session that the caller owns; the planner decides
 * afterwards what follows. Each refuses what the session's state does not allow, and says what is possible instead.
 */
import type { AgentReply } from '../messages/definitions.ts'
import { type ErrorCode, HowdahError } from '../messages/errors.ts'
import type { ExportRequest } from '../messages/exports.ts'
import type { StepResult } from '../messages/steps.ts'
import { type RecoverTo, StepName } from '../messages/values.ts'
import { dueExport, missingStep } from './planner.ts'
import { addWarnings, resetFailures, type Session, type SessionRequest } from './session.ts'

/** Ends the session. A write cache that is kept stays bound to the backup that it holds changes of. */
export function unpublish(
  session: Session,
  { keepCache = false }: { keepCache?: boolean | undefined },
): void {
  if (keepCache) {
    if (!session.everPublished) throw refused(session, 'was never published: it has no changes to keep')
    if (session.desired === 'absent' && !session.keepCache)
      throw refused(session, 'is being unpublished already')
    session.request = pinnedRequest(session)
  }
  session.next = undefined
  if (!keepCache) releaseKeptCache(session)
  session.keepCache = keepCache || undefined
  startTeardown(session)
}

/** Publishes again in the same session, once its present instance is torn down. */
export function republish(session: Session, request: SessionRequest): void {
  session.next = request
  releaseKeptCache(session)
  startTeardown(session)
}

/** The request of a republish: the session's own with the same port and settings, and another recovery target. */
export function requestAgain(
  session: Session,
  { recoverTo, backup }: { recoverTo?: RecoverTo | undefined; backup?: string | undefined },
): SessionRequest {
  const port = session.results.preflight?.port ?? session.request.options.port
  return {
    ...session.request,
    backup: backup ?? 'latest',
    recoverTo: recoverTo ?? { type: 'latest' },
    options: { ...session.request.options, ...(port !== undefined && { port }) },
  }
}

/** Once the teardown is complete, the session begins anew with the request of the republish; nothing else remains of it. */
export function startRepublish(session: Session): void {
  const { next } = session
  if (!next || session.desired !== 'absent' || session.begun.length > 0 || session.current) return
  Object.assign(session, {
    request: next,
    next: undefined,
    desired: 'published',
    results: {},
    everPublished: false,
    warnings: [],
    warningHistory: undefined,
    usage: undefined,
    changes: undefined,
    reachability: undefined,
    pausedRecovery: undefined,
    failure: undefined,
    undone: [],
  } satisfies Partial<Session>)
  clearDisruption(session)
}

/** Resumes a session that waits for an operator, or that was closed with its changes kept. */
export function retry(session: Session): void {
  if (session.desired === 'absent') {
    if (!session.keepCache || session.state !== 'closed') {
      throw refused(session, 'has ended; "howdah republish" publishes its instance again')
    }
    session.desired = 'published'
    releaseKeptCache(session)
    session.results = {}
    session.undone = []
  }
  clearDisruption(session)
}

/** Takes over what a target has of the session: as it is published there, or to remove it. `found`: from its journal. */
export function adopt(
  session: Session,
  found: Pick<Extract<AgentReply<'session.record'>, { accepted: true }>, 'sequence' | 'input' | 'recover'>,
  remove: boolean,
): void {
  const { sequence = 0, input, recover } = found
  clearDisruption(session)
  session.desired = remove ? 'absent' : 'published'
  session.sequence = Math.max(session.sequence, sequence)
  session.begun = [...KEPT_STEPS, 'recover']
  session.results = remove
    ? {}
    : { resolve: input?.resolved, preflight: input?.checked, mount: input?.mounted, recover }
  session.everPublished = true
  session.current = undefined
  session.next = undefined
  session.keepCache = undefined
  session.failure = undefined
  session.undone = []
}

/** Closes the session as if everything of it had been undone, because its target will never come back to undo it. */
export function forget(session: Session): void {
  const { begun, keepCache, request } = session
  if (begun.length > 0 || keepCache) {
    addWarnings(session, [
      `The session was forgotten; what is left of it on target ${request.target} was not removed.`,
    ])
  }
  session.next = undefined
  session.keepCache = undefined
  startTeardown(session)
  session.exports = session.exports?.map((job) =>
    job.status === 'pending' || job.status === 'running' ? { ...job, status: 'cancelled' } : job,
  )
  session.begun = []
  session.current = undefined
}

/** Stops what is in progress: an export, or the publish, which is undone. */
export function cancel(session: Session): void {
  if (session.state === 'closed' || session.state === 'failed') {
    throw refused(session, 'has ended: nothing is in progress')
  }
  if (session.desired === 'absent') return
  const due = dueExport(session)
  if (due && !session.exportOnly) {
    session.exports = session.exports?.map((job) => (job.id === due.id ? { ...job, cancelled: true } : job))
    session.retryAt = undefined
    return
  }
  if (missingStep(session) === undefined && !session.exportOnly) {
    throw refused(session, 'is published, and nothing is in progress; "howdah unpublish" ends it')
  }
  if (session.everPublished && !session.exportOnly) {
    throw refused(session, 'holds changes and is being resumed; "howdah unpublish" ends it, with them')
  }
  session.failure = { code: 'cancelled', message: 'the publishing was cancelled' }
  startTeardown(session)
}

/** Ends a paused recovery, which makes the instance writable. */
export function promote(session: Session): void {
  requirePaused(session)
  session.request = { ...session.request, options: { ...session.request.options, afterRecovery: 'promote' } }
  session.results = { ...session.results, recover: undefined }
}

/** Moves a paused recovery forward. The target agent refuses a target that was passed already; the recovery then stays paused. */
export function advance(session: Session, recoverTo: RecoverTo): void {
  const recover = requirePaused(session)
  const { resolve } = session.results
  session.pausedRecovery = { recoverTo: session.request.recoverTo, resolve, recover }
  session.request = { ...session.request, recoverTo }
  session.results = {
    ...session.results,
    ...(resolve && { resolve: { ...resolve, recoverTo: undefined } }),
    recover: undefined,
  }
}

/** @returns the id of the export */
export function requestExport(session: Session, request: ExportRequest, now: string): string {
  const waiting = (session.exports ?? []).filter(({ status }) => status === 'pending' || status === 'running')
  if (session.desired === 'absent' || !session.everPublished || session.state === 'failed') {
    throw refused(session, 'is not published')
  }
  if (waiting.length >= MAX_WAITING_EXPORTS) {
    throw refused(session, `has ${waiting.length} exports that wait already`)
  }
  return addExport(session, request, now)
}

/** Appends an export to the session's queue. @returns its id */
export function addExport(session: Session, request: ExportRequest, now: string): string {
  const exports = session.exports ?? []
  const last = exports.at(-1)
  const id = `e${(last ? Number(last.id.slice(1)) : 0) + 1}`
  session.exports = [
    ...exports,
    { id, request, status: 'pending' as const, requestedAt: now, databases: [] },
  ].slice(-MAX_EXPORTS)
  return id
}

/** `seconds`: how long the session lives from now on; null: without limit. */
export function extend(session: Session, seconds: number | null, now: string): void {
  if (session.desired === 'absent') throw refused(session, 'has ended')
  session.expires =
    seconds === null
      ? undefined
      : { at: new Date(Date.parse(now) + seconds * 1000).toISOString(), setAt: now }
}

function startTeardown(session: Session): void {
  session.desired = 'absent'
  // An export that was sent to its agent is cancelled when the step is undone.
  const sent = session.begun.includes('export') ? dueExport(session) : undefined
  session.exports = session.exports?.map((job) =>
    job.status === 'pending' && job !== sent ? { ...job, status: 'cancelled' } : job,
  )
  clearDisruption(session)
}

/** The write cache is kept no longer: the steps that left it are to be undone by the next teardown. */
function releaseKeptCache(session: Session): void {
  if (!session.keepCache) return
  session.keepCache = undefined
  // The command that was sent says to keep the cache; it is superseded.
  if (session.current?.direction === 'undo') session.current = undefined
  const begun = new Set<StepName>([...KEPT_STEPS, ...session.begun])
  session.begun = StepName.options.filter((step) => begun.has(step))
}

/** `mount` left the cache, `preflight` the reservation of its port. */
const KEPT_STEPS: readonly StepName[] = ['preflight', 'mount']

/** Clears whatever kept the session from proceeding: the planner then chooses the next step at once. */
function clearDisruption(session: Session): void {
  resetFailures(session)
  session.retryAt = undefined
  session.awaitsRetry = undefined
  session.error = undefined
}

function requirePaused(session: Session): StepResult<'recover'> {
  const { recover } = session.results
  if (session.desired === 'published' && recover?.paused) return recover
  throw refused(session, 'has no recovery that is paused; publish with "--after-recovery pause"')
}

function pinnedRequest(session: Session): SessionRequest {
  const { request, results } = session
  const port = results.preflight?.port ?? request.options.port
  return {
    ...request,
    backup: results.resolve?.backup.label ?? request.backup,
    options: { ...request.options, ...(port !== undefined && { port }) },
  }
}

function refused({ id }: Session, why: string, code: ErrorCode = 'session_state'): HowdahError {
  return new HowdahError(code, `the session "${id}" ${why}`, { field: 'session' })
}

const MAX_EXPORTS = 50
const MAX_WAITING_EXPORTS = 20
