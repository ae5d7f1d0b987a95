/** When a session has to be looked at next, although no event about it comes. */
import { plan } from './planner.ts'
import type { Session } from './session.ts'
import { stepAgent } from './step-command.ts'
import { isObstacle } from './step-transitions.ts'
import { nextExpiryCheck } from './warnings.ts'

/** Milliseconds without a report after which a step is sent again. */
export const RESEND_AFTER_MS = 20_000

/** The agent that the current step waits for; undefined without a step. */
export function awaitedAgent(session: Session): string | undefined {
  return session.current && agentKey(stepAgent(session, session.current.step))
}

/** Whether the session says that the agent of its current step cannot be given commands. */
export function saysAgentAway({ current, error }: Session): boolean {
  return current !== undefined && isObstacle(error)
}

/** Milliseconds since the epoch; undefined: only an event moves it on, or the return of its agent. */
export function nextDue(session: Session): number | undefined {
  const times = [stepDue(session), expiryDue(session)].filter((time) => time !== undefined)
  return times.length === 0 ? undefined : Math.min(...times)
}

function stepDue(session: Session): number | undefined {
  const { current, retryAt } = session
  if (current) return saysAgentAway(session) ? undefined : Date.parse(current.heardAt) + RESEND_AFTER_MS
  if (plan(session, Number.POSITIVE_INFINITY).action === 'rest') return undefined
  return retryAt === undefined ? 0 : Date.parse(retryAt)
}

function expiryDue({ desired, warningHistory = [], expires }: Session): number | undefined {
  return desired === 'absent' ? undefined : nextExpiryCheck(warningHistory, expires)
}

/** `target.db-7`. */
export function agentKey({ kind, name }: { readonly kind: string; readonly name: string }): string {
  return `${kind}.${name}`
}
