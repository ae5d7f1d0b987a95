/**
 * The session planner: derives the next action from the desired and the observed state. Pure: the position of a session
 * is not stored, but derived again after every event and every restart.
 */
import { type PublishStep, type SessionState, STEPS, type StepName } from '../messages/values.ts'
import type { ExportJob, Session } from './session.ts'

export type Plan =
  /** Send the agent of the step the command to run or undo it. */
  | { readonly action: 'send'; readonly step: StepName; readonly direction: 'run' | 'undo' }
  /** The agent has the command; its events decide what follows. */
  | { readonly action: 'await-agent' }
  /** A failed step is retried at `retryAt`. */
  | { readonly action: 'await-retry' }
  /** Nothing is left to do. */
  | { readonly action: 'rest' }

/** `now`: milliseconds since the epoch. */
export function plan(session: Session, now: number): Plan {
  const next = nextStep(session)
  if (next === undefined) return { action: 'rest' }
  const { current } = session
  if (current && current.step === next.step && current.direction === next.direction) {
    return { action: 'await-agent' }
  }
  if (session.retryAt !== undefined && now < Date.parse(session.retryAt)) return { action: 'await-retry' }
  return { action: 'send', ...next }
}

function nextStep(session: Session): { step: StepName; direction: 'run' | 'undo' } | undefined {
  switch (session.desired) {
    case 'published': {
      if (session.awaitsRetry) return undefined
      const step = missingStep(session)
      return step ? { step, direction: 'run' } : nextExport(session)
    }
    case 'absent': {
      const step = session.begun.at(-1)
      return step && { step, direction: 'undo' }
    }
    default:
      return session.desired satisfies never
  }
}

/** The first step of publishing that is not in effect; undefined when the instance is published. */
export function missingStep({ results }: Pick<Session, 'results'>): PublishStep | undefined {
  return STEPS.find((name) => results[name] === undefined)
}

/** The running export, or else the oldest one that is pending. */
export function dueExport({ exports = [] }: Pick<Session, 'exports'>): ExportJob | undefined {
  return (
    exports.find(({ status }) => status === 'running') ?? exports.find(({ status }) => status === 'pending')
  )
}

function nextExport(session: Session): { step: 'export'; direction: 'run' | 'undo' } | undefined {
  const due = dueExport(session)
  return due && { step: 'export', direction: due.cancelled ? 'undo' : 'run' }
}

/** The state that operators see, derived from the rest of the session. */
export function stateOf(session: Session): SessionState {
  if (session.desired === 'absent') {
    if (session.begun.length > 0 || session.next !== undefined) return 'unpublishing'
    return session.failure ? 'failed' : 'closed'
  }
  const step = missingStep(session)
  if (session.error !== undefined || session.awaitsRetry || cutOff(session)) return 'disrupted'
  switch (step) {
    case undefined:
      return dueExport(session) ? 'exporting' : 'published'
    case 'resolve':
    case 'preflight':
      return 'validating'
    case 'mount':
      return 'mounting'
    case 'recover':
      return 'recovering'
    default:
      return step satisfies never
  }
}

/** Whether reads fail because the mount server is unreachable. While no read needs that server, it is no disruption. */
function cutOff({ reachability }: Session): boolean {
  return reachability !== undefined && !reachability.reachable && reachability.failedReads > 0
}

/** Steps that leave something behind on their machine; `resolve` does not: a ticket is only signed. */
export const LEAVES_TRACES: Readonly<Record<StepName, boolean>> = {
  resolve: false,
  preflight: true,
  mount: true,
  recover: true,
  export: true,
}
