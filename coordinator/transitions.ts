/**
 * What reports outside of a step, and time, change in a session. Pure functions on a session that the caller owns; the
 * planner decides afterwards what follows. Every one is safe to apply twice: a stale or repeated event changes nothing.
 */
import type { EventBody } from '../messages/definitions.ts'
import { type AgentAddress, OBSERVATIONS } from '../messages/topology.ts'
import type { SpaceWarning, Usage } from '../messages/values.ts'
import { revokedMessage } from './agent-registry.ts'
import { unpublish } from './requests.ts'
import type { RetryPolicy } from './retry-policy.ts'
import { addWarnings, dropResults, type Session } from './session.ts'
import { newExpiryWarnings, newSpaceWarnings } from './warnings.ts'

/** `session.usage`. @returns the warnings that it raised; none for a repeated report */
export function usageReported(session: Session, usage: Usage, now: string): SpaceWarning[] {
  session.usage = usage
  return recordWarnings(session, newSpaceWarnings(session.warningHistory ?? [], usage, now))
}

/** Checks the session's expiry; an expired session is unpublished. @returns the warnings that it raised */
export function timePassed(session: Session, now: string): SpaceWarning[] {
  const { expires, desired } = session
  if (desired === 'absent') return []
  const raised = recordWarnings(session, newExpiryWarnings(session.warningHistory ?? [], expires, now))
  if (expires && Date.parse(expires.at) <= Date.parse(now)) {
    addWarnings(session, [`The session expired at ${expires.at}.`])
    unpublish(session, {})
  }
  return raised
}

function recordWarnings(session: Session, raised: SpaceWarning[]): SpaceWarning[] {
  if (raised.length > 0) {
    session.warningHistory = [...(session.warningHistory ?? []), ...raised].slice(-MAX_WARNINGS)
  }
  return raised
}

/** `session.lost`: the mount or PostgreSQL of a published session died; it and what depended on it must be repeated. */
export function partLost(
  session: Session,
  event: EventBody<'session.lost'>,
  { resume }: Pick<RetryPolicy, 'resume'>,
  now: string,
): void {
  if (session.desired !== 'published' || session.results.recover === undefined) return
  if (isMended(session, event, now)) return
  dropResults(session, event.what === 'mount' ? 'mount' : 'recover')
  session.error = {
    code: event.what === 'mount' ? 'mount_failed' : 'postgres_failed',
    message: event.reason,
  }
  if (!resume.automatic) session.awaitsRetry = true
}

/**
 * Whether a step that the agent did after it found the loss has mended it: losses and outcomes of steps come on queues of
 * their own, and overtake each other. A report that comes so much later than the step is about another loss, whatever a
 * journal that was lost or restored says: it would have expired.
 */
function isMended(session: Session, { afterStep }: EventBody<'session.lost'>, now: string): boolean {
  const mending = session.steps.findLast(
    ({ step, direction, status }) =>
      (step === 'mount' || step === 'recover') && direction === 'run' && status === 'done',
  )
  if (afterStep === undefined || mending?.finishedAt === undefined) return false
  return (
    afterStep < mending.sequence && Date.parse(now) - Date.parse(mending.finishedAt) < 2 * LOSS_EXPIRES_MS
  )
}

/** `session.reachability`: whether the target can reach the mount server. */
export function reachabilityReported(session: Session, event: EventBody<'session.reachability'>): void {
  const { session: _, reference: _reference, labels: _labels, ...reachability } = event
  session.reachability = reachability.reachable ? undefined : reachability
}

/** The target of a session was revoked: nobody can say any more what has become of it there. */
export function agentRevoked(session: Session, { kind, name }: AgentAddress): void {
  if (session.desired !== 'published') return
  session.error = { code: 'certificate_revoked', message: revokedMessage(kind, name) }
}

/** The target of a session was enrolled again after it was revoked. */
export function agentEnrolled(session: Session): void {
  if (session.error?.code === 'certificate_revoked') session.error = undefined
}

const MAX_WARNINGS = 100
const LOSS_EXPIRES_MS = OBSERVATIONS['session.lost'] ?? 0
