/**
 * A session as a client follows it: the coordinator's snapshots, and between them the agents' events. Pure functions.
 *
 * Events come directly from the agents, so a snapshot may be older: of the reports about one attempt of a step, the most
 * advanced wins. State, connection and errors of the session come from snapshots only.
 */
import type { EventDelivery } from '../../messages/bus.ts'
import type { ExportView } from '../../messages/exports.ts'
import { type SessionView, StepName, type StepReport } from '../../messages/values.ts'

const RANK = { sent: 0, running: 1, done: 2, failed: 2 } as const satisfies Record<
  StepReport['status'],
  number
>

/** A newer snapshot, merged with what events have reported meanwhile. */
export function mergeSnapshot(known: SessionView | undefined, snapshot: SessionView): SessionView {
  if (known === undefined) return snapshot
  let steps: StepReport[] = [...snapshot.steps]
  for (const report of known.steps) steps = upsert(steps, report)
  return { ...snapshot, steps }
}

/**
 * Whether waiting for an instance is over: it is published, possibly with an export running, or it will not be without
 * an operator.
 */
export function hasSettled(view: Pick<SessionView, 'state' | 'awaitsRetry'>): boolean {
  return view.state === 'published' || view.state === 'exporting' || needsRetry(view) || isOver(view)
}

/** Everything of it was removed, except changes that were kept on request. */
export function isOver({ state }: Pick<SessionView, 'state'>): boolean {
  return state === 'closed' || state === 'failed'
}

/** It is not retried automatically; "howdah retry" resumes it. */
export function needsRetry({ state, awaitsRetry }: Pick<SessionView, 'state' | 'awaitsRetry'>): boolean {
  return state === 'disrupted' && awaitsRetry === true
}

/** The number of its latest step; the steps of a later command have higher numbers. */
export function latestSequence({ steps }: Pick<SessionView, 'steps'>): number {
  return Math.max(0, ...steps.map(({ sequence }) => sequence))
}

/** The export with that id; without an id, the running or the next one. */
export function exportOf(
  { exports = [] }: Pick<SessionView, 'exports'>,
  id?: string,
): ExportView | undefined {
  if (id !== undefined) return exports.find((one) => one.id === id)
  return (
    exports.find(({ status }) => status === 'running') ?? exports.find(({ status }) => status === 'pending')
  )
}

/** Whether an export has ended, successfully or not. */
export function hasEnded({ status }: Pick<ExportView, 'status'>): boolean {
  return status === 'done' || status === 'failed' || status === 'cancelled'
}

/** Applies an event. `now` is the start time of a step that no snapshot has reported yet. */
export function applyEvent(view: SessionView, delivery: EventDelivery, now: Date): SessionView {
  switch (delivery.type) {
    case 'session.step-progress':
      return {
        ...withDatabases(view, delivery.body),
        steps: upsert(view.steps, reportOf(delivery, now)),
      }
    case 'session.step-started':
    case 'session.step-done':
    case 'session.step-failed':
      return { ...view, steps: upsert(view.steps, reportOf(delivery, now)) }
    case 'session.usage':
      return { ...view, usage: delivery.body.usage }
    case 'session.changes':
      return { ...view, changes: delivery.body.changes }
    case 'session.findings': {
      const news = delivery.body.warnings.filter((warning) => !view.warnings.includes(warning))
      return { ...view, warnings: [...view.warnings, ...news] }
    }
    case 'session.reachability': {
      const { session: _, ...reachability } = delivery.body
      return { ...view, reachability }
    }
    case 'session.state':
    case 'session.warning':
    case 'session.lost':
    case 'session.damage':
      return view
    default:
      return delivery satisfies never
  }
}

/** The latest attempt of every step in execution order: runs first to last, then undos last to first. */
export function latestAttempts(steps: readonly StepReport[]): StepReport[] {
  const latest = new Map<string, StepReport>()
  for (const report of steps) {
    const key = `${report.direction} ${report.step}`
    const other = latest.get(key)
    if (other === undefined || other.sequence <= report.sequence) latest.set(key, report)
  }
  const order = ({ step, direction }: StepReport) => {
    const place = StepName.options.indexOf(step)
    return direction === 'run' ? place : 2 * StepName.options.length - place
  }
  return [...latest.values()].sort((a, b) => order(a) - order(b))
}

function upsert(steps: readonly StepReport[], report: StepReport): StepReport[] {
  const index = steps.findIndex(
    ({ step, direction, sequence }) =>
      step === report.step && direction === report.direction && sequence === report.sequence,
  )
  const other = steps[index]
  if (other === undefined) return [...steps, report]
  const isFurther =
    RANK[report.status] > RANK[other.status] ||
    (report.status === other.status && (report.bytesDone ?? 0) >= (other.bytesDone ?? 0))
  return isFurther ? steps.with(index, { ...other, ...report, startedAt: other.startedAt }) : [...steps]
}

/** Updates the databases of the running export. */
function withDatabases(
  view: SessionView,
  { databases, totals }: Extract<StepEvent, { type: 'session.step-progress' }>['body'],
): SessionView {
  const due = exportOf(view)
  if (due === undefined || databases === undefined) return view
  const running: ExportView = { ...due, status: 'running', databases, ...(totals && { totals }) }
  return { ...view, exports: (view.exports ?? []).map((one) => (one.id === due.id ? running : one)) }
}

type StepEvent = Extract<EventDelivery, { type: `session.step-${string}` }>

function reportOf(delivery: StepEvent, now: Date): StepReport {
  const { step, direction, sequence } = delivery.body
  const report: StepReport = { step, direction, sequence, status: 'running', startedAt: now.toISOString() }
  switch (delivery.type) {
    case 'session.step-started':
      return report
    case 'session.step-progress': {
      const { detail, bytesDone, bytesTotal } = delivery.body
      return {
        ...report,
        ...(detail !== undefined && { detail }),
        ...(bytesDone !== undefined && { bytesDone }),
        ...(bytesTotal !== undefined && { bytesTotal }),
      }
    }
    case 'session.step-done':
      return { ...report, status: 'done', finishedAt: now.toISOString() }
    case 'session.step-failed':
      return { ...report, status: 'failed', finishedAt: now.toISOString(), error: delivery.body.error }
    default:
      return delivery satisfies never
  }
}
