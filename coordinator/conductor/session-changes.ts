/**
 * The only way in which a session changes: read, change, plan, save, then announce and send.
 *
 * The order is always save, then send. A crash in between loses nothing: the saved session says what was to be sent,
 * and it is sent again at the next start. When another coordinator saved the session in the meantime, the change is
 * applied again to what that one saved. What a command changes is saved together with its answer.
 */
import { announcementsOf } from '../announcements.ts'
import { sessionEntries } from '../audit-entries.ts'
import { type Clock, timestamp } from '../clock.ts'
import { historyOf } from '../history.ts'
import type { Locks } from '../locks.ts'
import { type Plan, plan, stateOf } from '../planner.ts'
import { startRepublish } from '../requests.ts'
import type { Session } from '../session.ts'
import { beginStep } from '../step-transitions.ts'
import type { Added, NewAnswer, Saved, Store, TargetLimits } from '../store/store.ts'
import type { Outbox } from './outbox.ts'
import type { RetryTimers } from './retry-timers.ts'
import type { StepDispatcher } from './step-dispatcher.ts'

/** A command that changes a session. */
export interface ChangingCommand {
  /** What the client asked for, in words, for the history. */
  readonly text: string
  /** Called after the change, before it is saved. */
  readonly answer: () => NewAnswer
}

type Mutate = (session: Session) => void

export interface SessionChanges {
  /** Saves a new session, its first step planned, with the answer to its command. `limits`: of its target. */
  add(session: Session, answer: NewAnswer, limits?: TargetLimits): Promise<Added>
  /**
   * Applies `mutate` and does what follows. Undefined: there is no such session. What `mutate` throws is thrown, and
   * nothing is changed; it may be called more than once.
   */
  change(id: string, mutate: Mutate): Promise<Session | undefined>
  /** As `change`, for a command. `answered`: it has an answer already, and nothing was changed. */
  execute(id: string, mutate: Mutate, command: ChangingCommand): Promise<'done' | 'answered' | 'unknown'>
  /** Plans anew without a change of its own: sends the step that is due by now. */
  reconcile(id: string): Promise<Session | undefined>
}

export interface SessionChangesOptions {
  readonly store: Store
  readonly locks: Locks
  readonly outbox: Outbox
  readonly dispatcher: StepDispatcher
  readonly retries: RetryTimers
  /** Called with a session before and after each change that was saved; must not throw. */
  readonly observe?: ((before: Session | undefined, after: Session) => void) | undefined
  readonly now: Clock
}

export function createSessionChanges(options: SessionChangesOptions): SessionChanges {
  const { store, locks, outbox, dispatcher, retries, observe, now } = options

  /** One attempt on a session as it was read. */
  async function apply(session: Session, mutate: Mutate, command?: ChangingCommand): Promise<Saved> {
    const before = JSON.stringify(session)
    mutate(session)
    const next = proceed(session, now)
    if (command || JSON.stringify(session) !== before) {
      const earlier = JSON.parse(before) as Session
      session.updatedAt = timestamp(now)
      const history = addHistory(earlier, session, command?.text)
      const announcements = announcementsOf(earlier, session, session.version + 1)
      const saved = await store.saveSession(session, {
        ...{ history, answer: command?.answer(), announcements },
        audit: sessionEntries(announcements),
      })
      if (saved !== 'saved') return saved
      outbox.publish(announcements)
      observe?.(earlier, session)
    }
    follow(session, next)
    return 'saved'
  }

  function follow(session: Session, next: Plan): void {
    if (next.action === 'send') void dispatcher.send(session)
    if (next.action === 'await-retry') retries.schedule(session)
  }

  function change(
    id: string,
    mutate: Mutate,
    command?: ChangingCommand,
  ): Promise<{ session: Session | undefined; answered: boolean }> {
    return locks.exclusive(id, async () => {
      for (;;) {
        const session = await store.session(id)
        const saved = session && (await apply(session, mutate, command))
        if (saved !== 'stale') return { session, answered: saved === 'answered' }
      }
    })
  }

  return {
    async add(session, answer, limits) {
      const next = proceed(session, now)
      const text = `publish ${session.request.instance} of ${session.request.repository}`
      const history = addHistory(undefined, session, text)
      const announcements = announcementsOf(undefined, session, session.version)
      const audit = sessionEntries(announcements)
      const added = await store.addSession(session, { history, answer, announcements, audit }, limits)
      if (added.outcome === 'added') {
        outbox.publish(announcements)
        observe?.(undefined, session)
        follow(session, next)
      }
      return added
    },
    change: async (id, mutate) => (await change(id, mutate)).session,
    async execute(id, mutate, command) {
      const { session, answered } = await change(id, mutate, command)
      return answered ? 'answered' : session ? 'done' : 'unknown'
    },
    reconcile: async (id) => (await change(id, () => undefined)).session,
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

/** @returns the entries to save */
function addHistory(earlier: Session | undefined, session: Session, command: string | undefined) {
  const history = historyOf(earlier, session, session.updatedAt, command)
  session.historyLength = (session.historyLength ?? 0) + history.length
  return history
}
