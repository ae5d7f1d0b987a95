/**
 * The history of a session: what happened, in words and with durations, worked out from what a change made different.
 * Pure; nothing that changes a session has to remember to write it down.
 */
import type { ErrorBody } from '../messages/errors.ts'
import type { HistoryEntry, StepReport } from '../messages/values.ts'
import type { Session } from './session.ts'

type News = Omit<HistoryEntry, 'number' | 'at'>

/** `before`: undefined for a new session. `command`: what somebody asked for, if that made the change. */
export function historyOf(
  before: Session | undefined,
  after: Session,
  now: string,
  command?: string,
): HistoryEntry[] {
  const news: News[] = [
    ...(command === undefined ? [] : [{ type: 'command' as const, text: command }]),
    ...stepNews(before, after),
    ...warningNews(before, after),
    ...disruptionNews(before, after),
    ...exportNews(before, after),
    ...stateNews(before, after),
  ]
  const first = (after.historyLength ?? 0) + 1
  return news.map((entry, index) => ({ number: first + index, at: now, ...entry }))
}

function stepNews(before: Session | undefined, after: Session): News[] {
  const known = new Map((before?.steps ?? []).map((report) => [report.sequence, report.status]))
  const ended = after.steps.filter((report) => known.get(report.sequence) !== report.status)
  const began = after.current && after.current.sequence !== before?.current?.sequence ? [after.current] : []
  return [...ended, ...began].map(stepEntry)
}

function stepEntry(report: StepReport): News {
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

function warningNews(before: Session | undefined, after: Session): News[] {
  const known = new Set((before?.warningHistory ?? []).map(({ about, at }) => `${about} ${at}`))
  const raised = (after.warningHistory ?? []).filter(({ about, at }) => !known.has(`${about} ${at}`))
  const others = after.warnings.filter((warning) => !before?.warnings.includes(warning))
  return [...raised.map(({ message }) => message), ...others].map((text) => ({ type: 'warning', text }))
}

function disruptionNews(before: Session | undefined, after: Session): News[] {
  const news: News[] = []
  const { error, reachability } = after
  if (error && !sameError(error, before?.error) && !after.steps.some((report) => report.error === error)) {
    news.push({ type: 'disruption', text: error.message, error })
  }
  if (after.awaitsRetry && !before?.awaitsRetry) {
    news.push({ type: 'disruption', text: `it does not go on by itself; "howdah retry ${after.id}" does` })
  }
  if (reachability && reachability.failedReads !== before?.reachability?.failedReads) {
    const failed = reachability.failedReads > 0 ? `; ${reachability.failedReads} reads failed` : ''
    news.push({ type: 'disruption', text: `the mount server cannot be reached${failed}` })
  }
  if (!reachability && before?.reachability) {
    news.push({ type: 'disruption', text: 'the mount server can be reached again' })
  }
  return news
}

function exportNews(before: Session | undefined, after: Session): News[] {
  const known = new Map((before?.exports ?? []).map(({ id, status }) => [id, status]))
  return (after.exports ?? [])
    .filter(({ id, status }) => known.get(id) !== status)
    .map(({ id, status, error }) => ({
      type: 'export',
      text: `export ${id} ${status}${error ? `: ${error.message}` : ''}`,
      ...(error && { error }),
    }))
}

function stateNews(before: Session | undefined, after: Session): News[] {
  if (before?.state === after.state) return []
  const error = after.failure ?? after.error
  return [{ type: 'state', text: after.state, state: after.state, ...(error && { error }) }]
}

function sameError(a: ErrorBody, b: ErrorBody | undefined): boolean {
  return b !== undefined && a.code === b.code && a.message === b.message
}
