/**
 * Owns the journal of an agent: the steps that it accepted and their outcomes, durable before a command is
 * acknowledged. After a crash it says which steps to repeat and which outcomes may not have reached the broker.
 */
import { isDeepStrictEqual } from 'node:util'
import type { ErrorBody } from '../../messages/errors.ts'
import type { StepCommand } from '../../messages/steps.ts'
import type { StepName } from '../../messages/values.ts'
import { openJournalFile } from './journal-file.ts'

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

/**
 * `known`: it is the latest step of its session already. `refused`: a later one is stored, or another one with its number;
 * `highest` is the number of the latest one.
 */
export type Acceptance =
  | { readonly verdict: 'new' }
  | { readonly verdict: 'known'; readonly entry: JournalEntry }
  | { readonly verdict: 'refused'; readonly highest: number }

export interface SessionRecord {
  /** Undefined: the session is unknown. */
  readonly sequence: number | undefined
  readonly inEffect: (JournalEntry & { readonly outcome: { readonly ok: true } }) | undefined
}

/** Steps of one session are numbered by `sequence`; a step with a higher number supersedes those before it. */
export interface Journal {
  /** Stores a new step. */
  accept(direction: Direction, command: StepCommand): Acceptance
  /** Whether this is the latest step of its session. */
  isLatest(session: string, sequence: number): boolean
  finish(session: string, sequence: number, outcome: StepOutcome): void
  /** The broker has confirmed the event with the outcome. */
  confirm(session: string, sequence: number): void
  /** The latest step of each session, where it has no outcome yet. */
  unfinished(): JournalEntry[]
  /** Steps whose outcome the broker has not confirmed. */
  unconfirmed(): JournalEntry[]
  /** The number of the latest step of a session, and how the step was run that is in effect: done, and not undone since. */
  record(session: string, step: StepName): SessionRecord
  /** The number of the latest step of a session that has ended; undefined: none that the journal knows. */
  lastEnded(session: string): number | undefined
  /**
   * Deletes older steps whose outcome is confirmed, or that a later one of their session superseded; not the one by which a
   * session was published, which is kept until it is undone.
   */
  prune(before: Date): void
  close(): void
}

/** `file`: in the agent's state directory; created when missing. @throws as `openJournalFile` */
export function openJournal(file: string): Journal {
  const db = openJournalFile(file)
  const latest = db.prepare('SELECT max(sequence) AS sequence FROM step WHERE session = ?')
  const ended = db.prepare(
    'SELECT max(sequence) AS sequence FROM step WHERE session = ? AND outcome IS NOT NULL',
  )
  const insert = db.prepare('INSERT INTO step (session, sequence, direction, command) VALUES (?, ?, ?, ?)')
  const select = db.prepare('SELECT * FROM step WHERE session = ? AND sequence = ?')
  const selectSession = db.prepare('SELECT * FROM step WHERE session = ? ORDER BY sequence DESC')
  const setOutcome = db.prepare('UPDATE step SET outcome = ? WHERE session = ? AND sequence = ?')
  const setConfirmed = db.prepare('UPDATE step SET announced = 1 WHERE session = ? AND sequence = ?')
  const selectUnfinished = db.prepare(`
    SELECT * FROM step AS s WHERE outcome IS NULL
    AND sequence = (SELECT max(sequence) FROM step WHERE session = s.session)`)
  const selectUnconfirmed = db.prepare('SELECT * FROM step WHERE outcome IS NOT NULL AND NOT announced')
  const deleteOld = db.prepare(`
    DELETE FROM step AS s WHERE accepted_at < ? AND (announced
    OR sequence < (SELECT max(sequence) FROM step WHERE session = s.session))
    AND NOT (direction = 'run' AND command ->> '$.step' = 'recover' AND sequence = (
      SELECT max(sequence) FROM step WHERE session = s.session AND command ->> '$.step' = 'recover'))`)

  const latestSequence = (session: string): number => Number(latest.get(session)?.sequence ?? 0)

  return {
    accept(direction, command) {
      const { session, sequence } = command
      const highest = latestSequence(session)
      const row = sequence === highest ? select.get(session, sequence) : undefined
      const known = row && entry(row)
      if (known && isSame(known, direction, command)) return { verdict: 'known', entry: known }
      if (sequence <= highest) return { verdict: 'refused', highest }
      insert.run(session, sequence, direction, JSON.stringify(command))
      return { verdict: 'new' }
    },
    isLatest: (session, sequence) => latestSequence(session) === sequence,
    finish(session, sequence, outcome) {
      setOutcome.run(JSON.stringify(outcome), session, sequence)
    },
    confirm(session, sequence) {
      setConfirmed.run(session, sequence)
    },
    record(session, step) {
      const rows = selectSession.all(session).map(entry)
      const latest = rows.find(({ command }) => command.step === step)
      return {
        sequence: rows[0]?.command.sequence,
        inEffect: latest?.direction === 'run' && latest.outcome?.ok ? (latest as never) : undefined,
      }
    },
    lastEnded: (session) => (ended.get(session)?.sequence ?? undefined) as number | undefined,
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

/** Whether it is the same step for the same purpose: a coordinator with an older store counts from a lower number again. */
function isSame(known: JournalEntry, direction: Direction, command: StepCommand): boolean {
  const purpose = ({ step, input }: StepCommand): unknown => {
    const { repository, instance, backup, recoverTo, target, export: requested } = input
    return JSON.parse(JSON.stringify({ step, repository, instance, backup, recoverTo, target, requested }))
  }
  return known.direction === direction && isDeepStrictEqual(purpose(known.command), purpose(command))
}

function entry(row: Record<string, unknown>): JournalEntry {
  return {
    direction: row.direction as Direction,
    command: JSON.parse(String(row.command)) as StepCommand,
    outcome: row.outcome === null ? undefined : (JSON.parse(String(row.outcome)) as StepOutcome),
  }
}
