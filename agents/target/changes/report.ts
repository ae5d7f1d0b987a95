/** Reports the changes of published sessions: queries them at intervals, and reports what differs from the last report. */
import type { Logger } from 'pino'
import type { Changes } from '../../../messages/values.ts'
import type { PublishedSession } from '../session/published-session.ts'
import { REPEAT_MS } from '../session/repetition.ts'
import type { SessionChanges } from './session-changes.ts'

export interface ChangesReport {
  /** May be called at any rate while a session is published. Never rejects, and returns at once. */
  look(session: PublishedSession): void
}

export interface ChangesReportOptions {
  readonly changes: SessionChanges
  readonly report: (session: string, changes: Changes) => Promise<void>
  readonly logger: Logger
  readonly now?: () => number
}

/** Interval between queries of a session. Milliseconds. */
const QUERY_EVERY_MS = 10_000

export function createChangesReport({
  changes,
  report,
  logger,
  now = Date.now,
}: ChangesReportOptions): ChangesReport {
  const entries = new Map<
    string,
    { at: number; busy: boolean; reported: string | undefined; reportedAt: number }
  >()

  return {
    look(session) {
      const entry = entries.get(session.session) ?? { at: 0, busy: false, reported: undefined, reportedAt: 0 }
      if (entry.busy || now() - entry.at < QUERY_EVERY_MS) return
      entries.set(session.session, entry)
      entry.busy = true
      changes
        .of(session)
        .then(async (found) => {
          const text = JSON.stringify(found)
          if (text === entry.reported && now() - entry.reportedAt < REPEAT_MS) return
          await report(session.session, found)
          entry.reported = text
          entry.reportedAt = now()
        })
        .catch((err: unknown) =>
          logger.debug({ err, session: session.session }, 'changes could not be queried'),
        )
        .finally(() => {
          entry.busy = false
          entry.at = now()
        })
    },
  }
}
