/** Sessions as clients see them. */
import type { ExportView } from '../messages/exports.ts'
import type { SessionView, StepReport } from '../messages/values.ts'
import { missingStep } from './planner.ts'
import type { CurrentStep, ExportJob, Session } from './session.ts'
import { tagsOf } from './tags.ts'
import { activeWarnings } from './warnings.ts'

export function sessionView(session: Session): SessionView {
  const { results, request } = session
  const places = results.mount ?? results.preflight
  const ended = session.state === 'closed' || session.state === 'failed'
  const step = session.current?.step ?? missingStep(session)
  return {
    id: session.id,
    version: session.version,
    state: session.state,
    ...(step !== undefined && !ended && session.state !== 'published' && { step }),
    repository: request.repository,
    instance: request.instance,
    backup: results.resolve?.backup.label ?? request.backup,
    recoverTo: request.recoverTo,
    target: request.target,
    ...tagsOf(session),
    ...(session.messageId !== undefined && { messageId: session.messageId }),
    createdAt: session.createdAt,
    updatedAt: session.updatedAt,
    ...(results.recover && { connection: results.recover.connection }),
    ...(places &&
      !ended && {
        mountPoint: places.mountPoint,
        writeCache: { path: places.cachePath, bytes: session.usage?.cacheBytes ?? 0 },
      }),
    ...(request.options.afterRecovery && { afterRecovery: request.options.afterRecovery }),
    ...(results.recover?.paused && { paused: results.recover.paused }),
    ...(results.recover?.reached && { reached: results.recover.reached }),
    ...(session.expires && !ended && { expiresAt: session.expires.at }),
    ...(session.retryAt !== undefined && !ended && { retryAt: session.retryAt }),
    ...(session.awaitsRetry && !ended && { awaitsRetry: true }),
    ...(session.changes && { changes: session.changes }),
    ...(session.reachability && !ended && { reachability: session.reachability }),
    ...(session.exports && { exports: session.exports.map(exportView) }),
    ...(session.keepCache && ended && { keptCache: true }),
    ...(session.usage && { usage: session.usage }),
    steps: session.current ? [...session.steps, stepReport(session.current)] : session.steps,
    ...((session.failure ?? session.error) && { error: session.failure ?? session.error }),
    warnings: ended
      ? session.warnings
      : [...session.warnings, ...activeWarnings(session.warningHistory ?? []).map(({ message }) => message)],
    ...(session.warningHistory && { warningHistory: session.warningHistory }),
    ...(session.desired === 'absent' && { undone: session.undone }),
  }
}

function exportView({ cancelled: _, ...view }: ExportJob): ExportView {
  return view
}

function stepReport({ heardAt: _, ...report }: CurrentStep): StepReport {
  return report
}
