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

/** Steps of one session are numbered by `sequence`; the highest is the one that counts. */
export interface Journal {
  /** Keeps a new step. `known`: it is there already. `stale`: a later one of its session is. */
  accept(direction: Direction, command: StepCommand): 'new' | 'known' | 'stale'
  find(session: string, sequence: number): JournalEntry | undefined
  /** Whether this is the latest step of its session. */
  isLatest(session: string, sequence: number): boolean
  finish(session: string, sequence: number, outcome: StepOutcome): void
  /** The coordinator's broker has the outcome. */
  announced(session: string, sequence: number): void
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
    sequence INTEGER NOT NULL,
    direction TEXT NOT NULL,
    command TEXT NOT NULL,
    outcome TEXT,
    announced INTEGER NOT NULL DEFAULT 0,
    accepted_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (session, sequence)
  ) STRICT, WITHOUT ROWID;
`

/** `file`: in the agent's state directory; made when missing. */
export function openJournal(file: string): Journal {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  const db = new DatabaseSync(file)
  db.exec(SCHEMA)
  const latest = db.prepare('SELECT max(sequence) AS sequence FROM step WHERE session = ?')
  const insert = db.prepare('INSERT INTO step (session, sequence, direction, command) VALUES (?, ?, ?, ?)')
  const select = db.prepare('SELECT * FROM step WHERE session = ? AND sequence = ?')
  const setOutcome = db.prepare('UPDATE step SET outcome = ? WHERE session = ? AND sequence = ?')
  const setAnnounced = db.prepare('UPDATE step SET announced = 1 WHERE session = ? AND sequence = ?')
  const selectUnfinished = db.prepare(`
    SELECT * FROM step AS s WHERE outcome IS NULL
    AND sequence = (SELECT max(sequence) FROM step WHERE session = s.session)`)
  const selectUnannounced = db.prepare('SELECT * FROM step WHERE outcome IS NOT NULL AND NOT announced')
  const deleteOld = db.prepare(`
    DELETE FROM step AS s WHERE accepted_at < ? AND (announced
    OR sequence < (SELECT max(sequence) FROM step WHERE session = s.session))`)

  const latestAttempt = (session: string): number => Number(latest.get(session)?.sequence ?? 0)

  return {
    accept(direction, command) {
      const { session, sequence } = command
      if (select.get(session, sequence)) return 'known'
      if (sequence < latestAttempt(session)) return 'stale'
      insert.run(session, sequence, direction, JSON.stringify(command))
      return 'new'
    },
    find(session, sequence) {
      const row = select.get(session, sequence)
      return row && entry(row)
    },
    isLatest: (session, sequence) => latestAttempt(session) === sequence,
    finish(session, sequence, outcome) {
      setOutcome.run(JSON.stringify(outcome), session, sequence)
    },
    announced(session, sequence) {
      setAnnounced.run(session, sequence)
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
