/**
 * What the reports on an export change in its session. Pure functions for step-transitions.ts, which has checked that
 * they are about the current step.
 */
import type { EventBody } from '../messages/definitions.ts'
import type { ErrorBody } from '../messages/errors.ts'
import type { DatabaseExport } from '../messages/exports.ts'
import { STEP_RESULTS, UndoResult } from '../messages/steps.ts'
import { dueExport } from './planner.ts'
import { addUndone, type ExportJob, resetFailures, type Session } from './session.ts'
import { parseResult } from './step-result.ts'

/** Progress of the running export. */
export function exportReported(session: Session, event: Partial<EventBody<'session.step-progress'>>): void {
  const due = dueExport(session)
  if (!due) return
  const { detail, databases = due.databases, totals = due.totals } = event
  const job: ExportJob = {
    ...due,
    status: 'running',
    databases,
    ...(totals && { totals }),
    ...(detail !== undefined && { detail }),
  }
  session.exports = (session.exports ?? []).map((one) => (one.id === due.id ? job : one))
}

/** The step `export` is done, or was undone because the export was cancelled. */
export function exportEnded(session: Session, event: EventBody<'session.step-done'>, now: string): void {
  session.begun = session.begun.filter((name) => name !== 'export')
  if (event.direction === 'undo') {
    addUndone(session, parseResult(UndoResult, event).undone)
    settleExport(session, now, { status: 'cancelled' })
    return
  }
  const { databases, totals, manifest, notes } = parseResult(STEP_RESULTS.export, event)
  const failed = databases.filter(({ status }) => status !== 'done')
  settleExport(session, now, {
    status: failed.length > 0 ? 'failed' : 'done',
    databases,
    ...(totals && { totals }),
    ...(manifest !== undefined && { manifest }),
    ...(notes !== undefined && { notes }),
    ...(failed.length > 0 && { error: exportError(failed) }),
  })
}

/** Databases that an error names. */
const MAX_NAMED = 20

function exportError(failed: readonly DatabaseExport[]): ErrorBody {
  const named = failed.slice(0, MAX_NAMED).map(({ database }) => database)
  const names = [...named, ...(failed.length > MAX_NAMED ? ['…'] : [])].join(', ')
  const details = failed
    .slice(0, MAX_NAMED)
    .map(({ error }) => error)
    .filter((error) => error !== undefined)
  return {
    code: 'export_failed',
    message: `not exported: ${names}. ${details[0]?.message ?? ''}`.trim(),
    ...(details.length > 0 && { details }),
  }
}

/** Records the end of the export. A session that was published for it alone ends with it. */
function settleExport(session: Session, now: string, end: Partial<ExportJob>): void {
  const due = dueExport(session)
  if (!due) return
  const ended: ExportJob = { ...due, ...end, finishedAt: now }
  session.exports = (session.exports ?? []).map((job) => (job.id === due.id ? ended : job))
  if (!session.exportOnly || session.desired === 'absent') return
  session.desired = 'absent'
  if (ended.error) session.failure = ended.error
}

/** An export that fails leaves the session published. */
export function exportFailed(session: Session, error: ErrorBody, now: string): void {
  resetFailures(session)
  session.begun = session.begun.filter((name) => name !== 'export')
  settleExport(session, now, { status: 'failed', error })
}
