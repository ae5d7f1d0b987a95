/**
 * The session planner: from what should be and what is, the next thing to do. Pure; nobody remembers where a session
 * was, it is worked out again after every event and every restart.
 */
import { type SessionState, STEPS, type StepName } from '../messages/values.ts'
import type { Session } from './session.ts'

export type Plan =
  /** Tell the step's agent to run or undo a step. */
  | { readonly action: 'send'; readonly step: StepName; readonly direction: 'run' | 'undo' }
  /** The agent has the command; its events tell what follows. */
  | { readonly action: 'await-agent' }
  /** A failed step is tried again at `retryAt`. */
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
      const step = STEPS.find((name) => session.results[name] === undefined)
      return step && { step, direction: 'run' }
    }
    case 'absent': {
      const step = session.begun.at(-1)
      return step && { step, direction: 'undo' }
    }
    default:
      return session.desired satisfies never
  }
}

/** The state that operators see, from the rest of the session. */
export function stateOf(session: Session): SessionState {
  const next = nextStep(session)
  if (session.desired === 'absent') {
    if (next !== undefined) return 'unpublishing'
    return session.failure ? 'failed' : 'closed'
  }
  if (next === undefined) return 'published'
  if (session.error !== undefined) return 'disrupted'
  switch (next.step) {
    case 'resolve':
    case 'preflight':
      return 'validating'
    case 'mount':
      return 'mounting'
    case 'recover':
      return 'recovering'
    default:
      return next.step satisfies never
  }
}

/** Steps that leave something behind on their machine; `resolve` does not: a ticket is only signed. */
export const LEAVES_TRACES: Readonly<Record<StepName, boolean>> = {
  resolve: false,
  preflight: true,
  mount: true,
  recover: true,
}
