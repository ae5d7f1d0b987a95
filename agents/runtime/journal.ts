/**
 * Owns the journal of an agent: the steps that it accepted and their outcomes, durable before a command is
 * acknowledged. After a crash it says which steps to repeat and which outcomes may not have reached the broker.
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
  /** Undefined until the step has ended. */
  readonly outcome: StepOutcome | undefined
}

/** Steps of one session are numbered by `sequence`; a step with a higher number supersedes those before it. */
export interface Journal {
  /** Stores a new step. `known`: it is stored already. `stale`: a later one of its session is stored. */
  accept(direction: Direction, command: StepCommand): 'new' | 'known' | 'stale'
  find(session: string, sequence: number): JournalEntry | undefined
  /** Whether this is the latest step of its session. */
  isLatest(session: string, sequence: number): boolean
  finish(session: string, sequence: number, outcome: StepOutcome): void
  /** The broker has confirmed the event with the outcome. */
  confirm(session: string, sequence: number): void
  /** The latest step of each session, where it has no outcome yet. */
  unfinished(): JournalEntry[]
  /** Steps whose outcome the broker has not confirmed. */
  unconfirmed(): JournalEntry[]
  /** Deletes older steps whose outcome is confirmed, or that a later one of their session superseded. */
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

/** `file`: in the agent's state directory; created when missing. */
export function openJournal(file: string): Journal {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  const db = new DatabaseSync(file)
  db.exec(SCHEMA)
  const latest = db.prepare('SELECT max(sequence) AS sequence FROM step WHERE session = ?')
  const insert = db.prepare('INSERT INTO step (session, sequence, direction, command) VALUES (?, ?, ?, ?)')
  const select = db.prepare('SELECT * FROM step WHERE session = ? AND sequence = ?')
  const setOutcome = db.prepare('UPDATE step SET outcome = ? WHERE session = ? AND sequence = ?')
  const setConfirmed = db.prepare('UPDATE step SET announced = 1 WHERE session = ? AND sequence = ?')
  const selectUnfinished = db.prepare(`
    SELECT * FROM step AS s WHERE outcome IS NULL
    AND sequence = (SELECT max(sequence) FROM step WHERE session = s.session)`)
  const selectUnconfirmed = db.prepare('SELECT * FROM step WHERE outcome IS NOT NULL AND NOT announced')
  const deleteOld = db.prepare(`
    DELETE FROM step AS s WHERE accepted_at < ? AND (announced
    OR sequence < (SELECT max(sequence) FROM step WHERE session = s.session))`)

  const latestSequence = (session: string): number => Number(latest.get(session)?.sequence ?? 0)

  return {
    accept(direction, command) {
      const { session, sequence } = command
      if (select.get(session, sequence)) return 'known'
      if (sequence < latestSequence(session)) return 'stale'
      insert.run(session, sequence, direction, JSON.stringify(command))
      return 'new'
    },
    find(session, sequence) {
      const row = select.get(session, sequence)
      return row && entry(row)
    },
    isLatest: (session, sequence) => latestSequence(session) === sequence,
    finish(session, sequence, outcome) {
      setOutcome.run(JSON.stringify(outcome), session, sequence)
    },
    confirm(session, sequence) {
      setConfirmed.run(session, sequence)
    },
    unfinished: () => selectUnfinished.all().map(entry),
    unconfirmed: () => selectUnconfirmed.all().map(entry),
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
