/**
 * What an agent was told to do and what became of it, durable before the command is acknowledged. After a crash it
 * says which steps to do again and which outcomes the coordinator may not have heard.
 */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { ErrorBody } from '../../messages/errors.ts'
import type { StepCommand } from '../../messages/steps.ts'

export type Direction = 'run' | 'undo'

export type StepOutcome =
  | { readonly ok: true; readonly result: Record<string, unknown> }
  | { readonly ok: false; readonly error: ErrorBody }

export interface JournalEntry {
  readonly direction: Direction
  readonly command: StepCommand
  /** Undefined while the step is to be done. */
  readonly outcome: StepOutcome | undefined
}

/** Steps of one session are numbered by `attempt`; the highest is the one that counts. */
export interface Journal {
  /** Keeps a new step. `known`: it is there already. `stale`: a later one of its session is. */
  accept(direction: Direction, command: StepCommand): 'new' | 'known' | 'stale'
  find(session: string, attempt: number): JournalEntry | undefined
  /** Whether this is the latest step of its session. */
  isLatest(session: string, attempt: number): boolean
  finish(session: string, attempt: number, outcome: StepOutcome): void
  /** The coordinator's broker has the outcome. */
  announced(session: string, attempt: number): void
  /** The latest step of every session that has one to do. */
  unfinished(): JournalEntry[]
  unannounced(): JournalEntry[]
  /** Forgets older steps that are announced, or that a later one of their session superseded. */
  prune(before: Date): void
  close(): void
}

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA busy_timeout = 5000;
  CREATE TABLE IF NOT EXISTS step (
    session TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    direction TEXT NOT NULL,
    command TEXT NOT NULL,
    outcome TEXT,
    announced INTEGER NOT NULL DEFAULT 0,
    accepted_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (session, attempt)
  ) STRICT, WITHOUT ROWID;
`

/** `file`: in the agent's state directory; made when missing. */
export function openJournal(file: string): Journal {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  const db = new DatabaseSync(file)
  db.exec(SCHEMA)
  const latest = db.prepare('SELECT max(attempt) AS attempt FROM step WHERE session = ?')
  const insert = db.prepare('INSERT INTO step (session, attempt, direction, command) VALUES (?, ?, ?, ?)')
  const select = db.prepare('SELECT * FROM step WHERE session = ? AND attempt = ?')
  const setOutcome = db.prepare('UPDATE step SET outcome = ? WHERE session = ? AND attempt = ?')
  const setAnnounced = db.prepare('UPDATE step SET announced = 1 WHERE session = ? AND attempt = ?')
  const selectUnfinished = db.prepare(`
    SELECT * FROM step AS s WHERE outcome IS NULL
    AND attempt = (SELECT max(attempt) FROM step WHERE session = s.session)`)
  const selectUnannounced = db.prepare('SELECT * FROM step WHERE outcome IS NOT NULL AND NOT announced')
  const deleteOld = db.prepare(`
    DELETE FROM step AS s WHERE accepted_at < ? AND (announced
    OR attempt < (SELECT max(attempt) FROM step WHERE session = s.session))`)

  const latestAttempt = (session: string): number => Number(latest.get(session)?.attempt ?? 0)

  return {
    accept(direction, command) {
      const { session, attempt } = command
      if (select.get(session, attempt)) return 'known'
      if (attempt < latestAttempt(session)) return 'stale'
      insert.run(session, attempt, direction, JSON.stringify(command))
      return 'new'
    },
    find(session, attempt) {
      const row = select.get(session, attempt)
      return row && entry(row)
    },
    isLatest: (session, attempt) => latestAttempt(session) === attempt,
    finish(session, attempt, outcome) {
      setOutcome.run(JSON.stringify(outcome), session, attempt)
    },
    announced(session, attempt) {
      setAnnounced.run(session, attempt)
    },
    unfinished: () => selectUnfinished.all().map(entry),
    unannounced: () => selectUnannounced.all().map(entry),
    prune(before) {
      deleteOld.run(before.toISOString())
    },
    close() {
      db.close()
    },
  }
}

function entry(row: Record<string, unknown>): JournalEntry {
  return {
    direction: row.direction as Direction,
    command: JSON.parse(String(row.command)) as StepCommand,
    outcome: row.outcome === null ? undefined : (JSON.parse(String(row.outcome)) as StepOutcome),
  }
}
