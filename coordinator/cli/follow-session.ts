/**
 * Follows one session until it settles. It subscribes to events before the first snapshot, so that it misses nothing in
 * between, and repeats the snapshot every few seconds, so that a crash of any component only delays an update.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bus, EventDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'
import { ask, isTransient } from './request.ts'
import { applyEvent, mergeSnapshot } from './session-progress.ts'

const POLL_MS = 3000

export interface FollowOptions {
  readonly bus: Bus
  readonly session: string
  /** Whether the wait is over; decided on snapshots only. */
  readonly settled: (view: SessionView) => boolean
  readonly onView: (view: SessionView) => void
  /** Called with each answer of the coordinator, before `onView`. */
  readonly onSnapshot?: (view: SessionView) => void
  readonly onEvent?: (delivery: EventDelivery) => void
  /** Called when it changes why the coordinator does not answer; undefined when it answers again. */
  readonly onUnavailable: (why: HowdahError | undefined) => void
  /** Called after a reconnect, during which events may have been missed; a snapshot follows at once. */
  readonly onMissed?: () => void
  readonly now: () => Date
  readonly signal: AbortSignal
}

/** @throws HowdahError `unknown_session`; the signal's reason when it is aborted */
export async function followSession(options: FollowOptions): Promise<SessionView> {
  const { bus, session, signal, now } = options
  let view: SessionView | undefined
  let wake = new AbortController()
  const early: EventDelivery[] = []
  const onEvent = (delivery: EventDelivery) => {
    options.onEvent?.(delivery)
    if (view === undefined) {
      early.push(delivery)
      return
    }
    view = applyEvent(view, delivery, now())
    options.onView(view)
    if (delivery.type === 'session.state' || delivery.type === 'session.lost') wake.abort()
  }
  const onMissed = () => {
    options.onMissed?.()
    wake.abort()
  }
  const consumer = await bus.watchEvents(`session.${session}.#`, onEvent, onMissed)
  let unavailable: HowdahError | undefined
  const report = (why: HowdahError | undefined) => {
    if (why?.code !== unavailable?.code) options.onUnavailable(why)
    unavailable = why
  }
  try {
    for (;;) {
      signal.throwIfAborted()
      wake = new AbortController()
      const snapshot = await takeSnapshot(bus, session, signal)
      const isUnavailable = snapshot instanceof HowdahError
      report(isUnavailable ? snapshot : undefined)
      if (!isUnavailable) {
        const isFirst = view === undefined
        view = mergeSnapshot(view, snapshot)
        if (isFirst) for (const delivery of early.splice(0)) view = applyEvent(view, delivery, now())
        options.onSnapshot?.(view)
        options.onView(view)
        if (options.settled(view)) return view
      }
      const wait = AbortSignal.any([signal, wake.signal])
      await sleep(POLL_MS * (0.8 + 0.4 * Math.random()), undefined, { signal: wait }).catch((error) => {
        if (!wait.aborted) throw error
      })
    }
  } finally {
    await consumer.close()
  }
}

const UNAVAILABLE: ReadonlySet<string> = new Set(['unroutable', 'broker_blocked'])

/** Returns the error if the coordinator or the broker is unavailable: the caller retries. */
async function takeSnapshot(
  bus: Bus,
  session: string,
  signal: AbortSignal,
): Promise<SessionView | HowdahError> {
  try {
    const body = { session, history: false }
    return (await ask(bus, 'session.show', body, { signal, deadlineMs: 5000, tryMs: 5000 })).session
  } catch (error) {
    if (signal.aborted) throw signal.reason
    if (isTransient(error) || (error instanceof HowdahError && UNAVAILABLE.has(error.code))) return error
    throw error
  }
}
