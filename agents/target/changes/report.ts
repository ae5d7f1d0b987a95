/** Tells of the changes of published sessions: looks now and then, and tells what is different. */
import type { Logger } from 'pino'
import type { Changes } from '../../../messages/values.ts'
import type { PublishedSession } from '../session/published-session.ts'
import type { SessionChanges } from './session-changes.ts'

export interface ChangesReport {
  /** To be called as often as one likes while a session is published. Never rejects, and nothing is awaited. */
  look(session: PublishedSession): void
}

export interface ChangesReportOptions {
  readonly changes: SessionChanges
  readonly tell: (session: string, changes: Changes) => Promise<void>
  readonly logger: Logger
}

/** Between two looks at a session. Milliseconds. */
const LOOK_EVERY_MS = 10_000

export function createChangesReport({ changes, tell, logger }: ChangesReportOptions): ChangesReport {
  const looked = new Map<string, { at: number; busy: boolean; told: string | undefined }>()

  return {
    look(session) {
      const entry = looked.get(session.session) ?? { at: 0, busy: false, told: undefined }
      if (entry.busy || Date.now() - entry.at < LOOK_EVERY_MS) return
      looked.set(session.session, entry)
      entry.busy = true
      changes
        .of(session)
        .then(async (found) => {
          const text = JSON.stringify(found)
          if (text === entry.told) return
          await tell(session.session, found)
          entry.told = text
        })
        .catch((err: unknown) =>
          logger.debug({ err, session: session.session }, 'changes were not looked at'),
        )
        .finally(() => {
          entry.busy = false
          entry.at = Date.now()
        })
    },
  }
}
