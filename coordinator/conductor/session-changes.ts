/**
 * The only way in which a session changes: read, change, plan, save, then announce and send.
 *
 * The order is always save, then send. A crash in between loses nothing: the saved session says what was to be sent,
 * and it is sent again at the next start. When another coordinator saved the session in the meantime, the change is
 * applied again to what that one saved.
 */
import { type Clock, timestamp } from '../clock.ts'
import { historyOf } from '../history.ts'
import { type Plan, plan, stateOf } from '../planner.ts'
import { startRepublish } from '../requests.ts'
import type { Session } from '../session.ts'
import { beginStep } from '../step-transitions.ts'
import type { Answer, Store } from '../store/store.ts'
import type { Announcer } from './announcer.ts'
import type { RetryTimers } from './retry-timers.ts'
import type { SessionLocks } from './session-locks.ts'
import type { StepDispatcher } from './step-dispatcher.ts'

export interface SessionChanges {
  /** Saves a new session with the answer to its command and begins it. False: that command created one before. */
  add(session: Session, answer: Answer): Promise<boolean>
  /**
   * Applies `mutate` and does what follows. `command`: what a client asked for, in words, for the history. Undefined:
   * there is no such session. What `mutate` throws is thrown, and nothing is changed; it may be called more than once.
   */
  change(id: string, mutate: (session: Session) => void, command?: string): Promise<Session | undefined>
  /** Plans anew without a change of its own: sends the step that is due by now. */
  reconcile(id: string): Promise<Session | undefined>
}

export interface SessionChangesOptions {
  readonly store: Store
  readonly locks: SessionLocks
  readonly announcer: Announcer
  readonly dispatcher: StepDispatcher
  readonly retries: RetryTimers
  readonly now: Clock
}

export function createSessionChanges(options: SessionChangesOptions): SessionChanges {
  const { store, locks, announcer, dispatcher, retries, now } = options

  /** One attempt on a session as it was read. False: another coordinator saved it in the meantime. */
  async function apply(
    session: Session,
    mutate: (session: Session) => void,
    command: string | undefined,
  ): Promise<boolean> {
    const before = JSON.stringify(session)
    const previous = session.state
    mutate(session)
    const next = proceed(session, now)
    if (JSON.stringify(session) !== before) {
      const earlier = JSON.parse(before) as Session
      if (!(await save(earlier, session, command))) return false
      announcer.stepWarnings(earlier, session)
    }
    if (session.state !== previous) announcer.state(session, previous)
    if (next.action === 'send') dispatcher.send(session)
    if (next.action === 'await-retry') retries.schedule(session)
    return true
  }

  function save(earlier: Session, session: Session, command: string | undefined): Promise<boolean> {
    session.updatedAt = timestamp(now)
    const history = historyOf(earlier, session, session.updatedAt, command)
    session.historyLength = (session.historyLength ?? 0) + history.length
    return store.saveSession(session, history)
  }

  function change(
    id: string,
    mutate: (session: Session) => void,
    command?: string,
  ): Promise<Session | undefined> {
    return locks.exclusive(id, async () => {
      for (;;) {
        const session = await store.session(id)
        if (!session || (await apply(session, mutate, command))) return session
      }
    })
  }

  const reconcile = (id: string): Promise<Session | undefined> => change(id, () => undefined)

  return {
    async add(session, answer) {
      const command = `publish ${session.request.instance} of ${session.request.repository}`
      const history = historyOf(undefined, session, timestamp(now), command)
      session.historyLength = history.length
      const added = await store.addSession(session, history, answer)
      if (added) {
        announcer.state(session, undefined)
        await reconcile(session.id)
      }
      return added
    },
    change,
    reconcile,
  }
}

/** Plans what follows, and makes the step that is to be sent the current one. */
function proceed(session: Session, now: Clock): Plan {
  startRepublish(session)
  const next = plan(session, now())
  if (next.action === 'send') beginStep(session, next.step, next.direction, timestamp(now))
  session.state = stateOf(session)
  return next
}
