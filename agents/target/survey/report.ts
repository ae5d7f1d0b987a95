/** Surveys the databases of each published session once, in the background, and reports the warnings. */
import { readFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { instanceAddress } from '../postgres/connections/instance-client.ts'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'
import type { PublishedSession } from '../session/published-session.ts'
import { surveyInstance } from './survey.ts'
import { surveyWarnings } from './warnings.ts'

export interface SurveyReport {
  /** May be called at any rate while a session is published. Never rejects, and returns at once. */
  look(session: PublishedSession): void
  /** Aborts surveys in progress. */
  close(): void
}

export interface SurveyReportOptions {
  readonly report: (session: string, warnings: string[]) => Promise<void>
  readonly logger: Logger
}

/** Interval between attempts, and between checks whether a session has already been surveyed. Milliseconds. */
const RETRY_AFTER_MS = 30_000
const ATTEMPTS = 5

interface Entry {
  /** Identifies the state of the session that is surveyed. */
  readonly as: string
  attempts: number
  nextAt: number
  busy: boolean
}

export function createSurveyReport({ report, logger }: SurveyReportOptions): SurveyReport {
  const entries = new Map<string, Entry>()
  const closing = new AbortController()

  async function survey(session: PublishedSession, as: string): Promise<void> {
    if ((await readRecord(session)) === as) return
    const found = surveyWarnings(await surveyInstance(await instanceAddress(session), closing.signal))
    if (found.length > 0) await report(session.session, found)
    await writeFileAtomically(recordPath(session), as, 0o600, 'process')
  }

  return {
    look(session) {
      // A recovery that was advanced or promoted may have other databases.
      const as = JSON.stringify([session.recoverTo, session.afterRecovery ?? null])
      const known = entries.get(session.session)
      if (known?.busy) return
      const entry = known?.as === as ? known : { as, attempts: 0, nextAt: 0, busy: false }
      entries.set(session.session, entry)
      if (entry.attempts >= ATTEMPTS || Date.now() < entry.nextAt) return
      entry.busy = true
      entry.attempts += 1
      survey(session, as)
        .then(() => {
          entry.attempts = 0
        })
        .catch((err: unknown) => {
          if (!closing.signal.aborted)
            logger.info({ err, session: session.session }, 'the databases of a session could not be surveyed')
        })
        .finally(() => {
          entry.busy = false
          entry.nextAt = Date.now() + RETRY_AFTER_MS
        })
    },
    close() {
      closing.abort(new Error('the agent ends'))
    },
  }
}

async function readRecord(session: PublishedSession): Promise<string | undefined> {
  return readFile(recordPath(session), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
}

function recordPath({ cachePath }: PublishedSession): string {
  return `${cachePath}/conf/surveyed.json`
}
