/**
 * Follows the events of all sessions. After a reconnect it says that events may have been missed, and catches up by asking
 * the coordinator which sessions are in another state than the last one it showed.
 */
import type { Bus, EventDelivery } from '../../messages/bus.ts'
import type { CommandBody } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { SessionSummary } from '../../messages/session-list.ts'
import type { SessionView } from '../../messages/values.ts'
import { pause } from '../../messages/wait.ts'
import { type Context, printJson } from './context.ts'
import type { Deadline } from './deadline.ts'
import { eventDocument, eventLine, viewLine } from './event-line.ts'
import { formatClock } from './format.ts'
import { listSessions } from './request.ts'

/** `howdah agents` shows which agents are online. */
const ALL = 'session.#'
/** After this long without an event it is asked for the reason. */
const QUIET_MS = 10_000

export interface WatchAll {
  readonly context: Context
  readonly bus: Bus
  readonly json: boolean
  readonly deadline: Deadline
}

/** Resolves when the deadline is over. @throws Interruption */
export async function watchAll({ context, bus, json, deadline }: WatchAll): Promise<void> {
  const { now } = context
  const begun = now()
  /** The latest event, or the start. */
  let heard = begun
  const states = new Map<string, SessionView['state']>()
  const print = (delivery: EventDelivery): void => {
    heard = now()
    if (delivery.type === 'session.state') states.set(delivery.body.session, delivery.body.state)
    if (json) printJson(context, eventDocument(context, delivery.type, delivery.body))
    else context.stdout.line(eventLine(context, delivery))
  }
  /** Oldest first. */
  const list = async (filter: CommandBody<'session.list'>) =>
    (await listSessions(bus, filter, deadline.asking())).sessions.toReversed()
  const isNews = ({ id, state }: SessionSummary) => states.get(id) !== state

  async function catchUp(since: Date): Promise<void> {
    try {
      const changed = await list({ all: true, changedSince: since.toISOString() })
      for (const view of changed.filter(isNews)) {
        states.set(view.id, view.state)
        if (json) printJson(context, eventDocument(context, 'session.show', view))
        else context.stdout.line(viewLine(context, view))
      }
    } catch (error) {
      if (deadline.signal.aborted) return
      const reason = error instanceof Error ? error.message : String(error)
      context.stderr.line(`howdah watch: what was missed since ${formatClock(since)} is not known: ${reason}`)
    }
  }

  let catchingUp = false
  const onMissed = (): void => {
    // Each of the consumers reports the same reconnect.
    if (catchingUp) return
    catchingUp = true
    const since = heard
    if (json) printJson(context, eventDocument(context, 'watch.missed', { since: since.toISOString() }))
    context.stderr.line(
      `howdah watch: reconnected; events since ${formatClock(since)} may be missing here, sessions that have changed follow`,
    )
    void catchUp(since).finally(() => {
      catchingUp = false
    })
  }

  let unavailable: HowdahError | undefined
  const report = (why: HowdahError | undefined): void => {
    if (deadline.signal.aborted || why?.code === unavailable?.code) return
    unavailable = why
    context.stderr.line(`howdah watch: ${why ? why.message : 'the coordinator answers again'}`)
  }
  /** Events are shown without a coordinator, too. */
  function noBaseline(error: unknown): SessionSummary[] {
    if (!(error instanceof HowdahError)) throw error
    report(error)
    return []
  }

  const consumer = await bus.watchEvents(ALL, print, onMissed)
  try {
    if (!json) context.stderr.line('Watching all sessions; Ctrl-C ends it.')
    // Bound before it is asked: no change falls in between.
    for (const { id, state } of await list({}).catch(noBaseline)) if (!states.has(id)) states.set(id, state)
    while (!deadline.signal.aborted) {
      await pause(QUIET_MS, deadline.signal)
      if (now().getTime() - heard.getTime() >= QUIET_MS) report(await whySilent(bus, deadline.signal))
    }
    context.interrupted.throwIfAborted()
  } finally {
    await consumer.close()
  }
}

/** Why there may be no events although there is news: RabbitMQ tells of an alarm only who publishes. */
async function whySilent(bus: Bus, signal: AbortSignal): Promise<HowdahError | undefined> {
  try {
    await bus.request('agent.list', {}, { signal })
    return undefined
  } catch (error) {
    if (error instanceof HowdahError) return error
    if (signal.aborted) return undefined
    throw error
  }
}
