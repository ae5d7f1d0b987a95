/**
 * The history of a session: entries in words and with durations, derived from the difference between a session before
 * and after a change. Pure, so that code that changes a session need not write history itself.
 */
import type { ErrorBody } from '../messages/errors.ts'
import type { HistoryEntry, StepReport } from '../messages/values.ts'
import type { Session } from './session.ts'

type NewEntry = Omit<HistoryEntry, 'number' | 'at'>

/** `before`: undefined for a new session. `command`: the command that made the change, if one did, in words. */
export function historyOf(
  before: Session | undefined,
  after: Session,
  now: string,
  command?: string,
): HistoryEntry[] {
  const entries: NewEntry[] = [
    ...(command === undefined ? [] : [{ type: 'command' as const, text: command }]),
    ...stepEntries(before, after),
    ...warningEntries(before, after),
    ...disruptionEntries(before, after),
    ...exportEntries(before, after),
    ...stateEntries(before, after),
  ]
  const first = (after.historyLength ?? 0) + 1
  return entries.map((entry, index) => ({ number: first + index, at: now, ...entry }))
}

function stepEntries(before: Session | undefined, after: Session): NewEntry[] {
  const known = new Map((before?.steps ?? []).map((report) => [report.sequence, report.status]))
  const ended = after.steps.filter((report) => known.get(report.sequence) !== report.status)
  const began = after.current && after.current.sequence !== before?.current?.sequence ? [after.current] : []
  return [...ended, ...began].map(stepEntry)
}

function stepEntry(report: StepReport): NewEntry {
  const { step, direction, sequence, status, startedAt, finishedAt, error } = report
  const milliseconds = finishedAt === undefined ? undefined : Date.parse(finishedAt) - Date.parse(startedAt)
  const what = direction === 'run' ? step : `undo of ${step}`
  const outcome = { sent: 'sent to its agent', running: 'runs', done: 'done', failed: 'failed' }[status]
  return {
    type: 'step',
    text: `${what} ${outcome}${error ? `: ${error.message}` : ''}`,
    step,
    direction,
    sequence,
    status,
    ...(milliseconds !== undefined && { milliseconds: Math.max(0, milliseconds) }),
    ...(error && { error }),
  }
}

function warningEntries(before: Session | undefined, after: Session): NewEntry[] {
  const known = new Set((before?.warningHistory ?? []).map(({ about, at }) => `${about} ${at}`))
  const raised = (after.warningHistory ?? []).filter(({ about, at }) => !known.has(`${about} ${at}`))
  const others = after.warnings.filter((warning) => !before?.warnings.includes(warning))
  return [...raised.map(({ message }) => message), ...others].map((text) => ({ type: 'warning', text }))
}

function disruptionEntries(before: Session | undefined, after: Session): NewEntry[] {
  const entries: NewEntry[] = []
  const { error, reachability } = after
  if (error && !sameError(error, before?.error) && !after.steps.some((report) => report.error === error)) {
    entries.push({ type: 'disruption', text: error.message, error })
  }
  if (after.awaitsRetry && !before?.awaitsRetry) {
    entries.push({
      type: 'disruption',
      text: `it is not resumed automatically; "howdah retry ${after.id}" resumes it`,
    })
  }
  if (reachability && reachability.failedReads !== before?.reachability?.failedReads) {
    const failed = reachability.failedReads > 0 ? `; ${reachability.failedReads} reads failed` : ''
    entries.push({ type: 'disruption', text: `the mount server cannot be reached${failed}` })
  }
  if (!reachability && before?.reachability) {
    entries.push({ type: 'disruption', text: 'the mount server can be reached again' })
  }
  return entries
}

function exportEntries(before: Session | undefined, after: Session): NewEntry[] {
  const known = new Map((before?.exports ?? []).map(({ id, status }) => [id, status]))
  return (after.exports ?? [])
    .filter(({ id, status }) => known.get(id) !== status)
    .map(({ id, status, error }) => ({
      type: 'export',
      text: `export ${id} ${status}${error ? `: ${error.message}` : ''}`,
      ...(error && { error }),
    }))
}

function stateEntries(before: Session | undefined, after: Session): NewEntry[] {
  if (before?.state === after.state) return []
  const error = after.failure ?? after.error
  return [{ type: 'state', text: after.state, state: after.state, ...(error && { error }) }]
}

function sameError(a: ErrorBody, b: ErrorBody | undefined): boolean {
  return b !== undefined && a.code === b.code && a.message === b.message
}
