/**
 * Follows one session until it settles. Events are bound before the first snapshot is taken, so that nothing between
 * is missed; snapshots are taken again every few seconds, so that a crash of anything only delays the news.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bus, EventDelivery } from '../../messages/bus.ts'
import type { SessionView } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import { ask, isPassing } from './request.ts'
import { applyEvent, mergeSnapshot } from './session-progress.ts'

const POLL_MS = 3000

export interface FollowOptions {
  readonly bus: Bus
  readonly session: string
  /** Whether a snapshot is what was waited for; asked for snapshots only. */
  readonly settled: (view: SessionView) => boolean
  readonly onView: (view: SessionView) => void
  readonly onEvent?: (delivery: EventDelivery) => void
  /** Whether the coordinator answers; told when it changes. */
  readonly onReachable: (reachable: boolean) => void
  readonly now: () => Date
  readonly signal: AbortSignal
}

/** @throws HowdahError `unknown_session`; the signal's reason when it is aborted */
export async function followSession(options: FollowOptions): Promise<SessionView> {
  const { bus, session, signal, now } = options
  let view: SessionView | undefined
  let wake = new AbortController()
  const early: EventDelivery[] = []
  const consumer = await bus.watchEvents(`session.${session}.#`, (delivery) => {
    options.onEvent?.(delivery)
    if (view === undefined) {
      early.push(delivery)
      return
    }
    view = applyEvent(view, delivery, now())
    options.onView(view)
    if (delivery.type === 'session.state' || delivery.type === 'session.lost') wake.abort()
  })
  let reachable = true
  const report = (value: boolean) => {
    if (value !== reachable) options.onReachable(value)
    reachable = value
  }
  try {
    for (;;) {
      signal.throwIfAborted()
      wake = new AbortController()
      const snapshot = await takeSnapshot(bus, session, signal)
      report(snapshot !== undefined)
      if (snapshot !== undefined) {
        const isFirst = view === undefined
        view = mergeSnapshot(view, snapshot)
        if (isFirst) for (const delivery of early.splice(0)) view = applyEvent(view, delivery, now())
        options.onView(view)
        if (options.settled(view)) return view
      }
      const nap = AbortSignal.any([signal, wake.signal])
      await sleep(POLL_MS * (0.8 + 0.4 * Math.random()), undefined, { signal: nap }).catch((error) => {
        if (!nap.aborted) throw error
      })
    }
  } finally {
    await consumer.close()
  }
}

/** Undefined: the coordinator or the broker is away. */
async function takeSnapshot(
  bus: Bus,
  session: string,
  signal: AbortSignal,
): Promise<SessionView | undefined> {
  try {
    return (await ask(bus, 'session.show', { session }, { signal, deadlineMs: 5000, tryMs: 5000 })).session
  } catch (error) {
    if (signal.aborted) throw signal.reason
    if (isPassing(error) || (error instanceof HowdahError && error.code === 'unroutable')) return undefined
    throw error
  }
}
