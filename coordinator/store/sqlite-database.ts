/**
 * The SQLite file of the store: rows in, rows out, every call synchronous. Runs in the thread of the store
 * (sqlite-thread.ts), so that no write to the disk holds up the coordinator's event loop.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { SessionState } from '../../messages/values.ts'
import type { AnnouncementRow } from './announcement-row.ts'
import type { Statement } from './session-query.ts'
import type { SessionRow } from './session-row.ts'
import { migrate } from './sqlite-schema.ts'
import { columns, statements } from './sqlite-statements.ts'
import { createTransactions } from './sqlite-transactions.ts'
import type { Added, CommandKey, Saved, TargetLimits, TargetUsage } from './store.ts'

/** A numbered document: an entry of a history, or of the audit stream. */
export interface EntryRow {
  readonly number: number
  readonly document: string
}

export interface AnswerRow extends CommandKey {
  readonly type: string
  readonly bodyHash: string
  /** JSON. */
  readonly reply: string
}

export interface NewAnswerRow extends AnswerRow {
  /** JSON: the entry in the audit stream. */
  readonly audit: string
}

/** What is saved with a session. */
export interface RowsWithSession {
  readonly history: readonly EntryRow[]
  readonly answer: NewAnswerRow | undefined
  readonly announcements: readonly AnnouncementRow[]
  /** JSON. */
  readonly audit: readonly string[]
}

export type SqliteDatabase = ReturnType<typeof openSqliteDatabase>

/** Rows that one statement of `prune` deletes: the next request does not wait for more. */
const PRUNE_ROWS = 500

/** @throws when the file cannot be opened, is no store, or belongs to a newer release (HowdahError `configuration`) */
export function openSqliteDatabase(file: string, maxHistory: number) {
  if (file !== ':memory:') createPrivately(file)
  const db = new DatabaseSync(file)
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000')
  db.exec('PRAGMA foreign_keys = ON')
  const id = migrate(db)
  const sql = statements(db)
  const transaction = createTransactions(db)

  function addHistory(session: string, entries: readonly EntryRow[]): void {
    for (const { number, document } of entries) sql.insertEntry.run(session, number, document)
    const last = entries.at(-1)?.number ?? 0
    if (last > maxHistory) sql.trimHistory.run(session, last - maxHistory)
  }

  function addAnnouncements(rows: readonly AnnouncementRow[]): void {
    for (const { id, session, version, number, document } of rows) {
      sql.insertAnnouncement.run(id, session, version, number, document)
    }
  }

  function addAuditEntries(documents: readonly string[]): void {
    for (const document of documents) sql.insertAuditEntry.run(document)
  }

  function addAnswer({ sender, messageId, type, bodyHash, reply, audit }: NewAnswerRow): boolean {
    if (sql.insertAnswer.run(sender, messageId, type, bodyHash, reply).changes === 0) return false
    addAuditEntries([audit])
    return true
  }

  function usage(target: string): TargetUsage {
    const row = sql.usage.get(target)
    return { sessions: Number(row?.sessions ?? 0), cacheBytes: Number(row?.bytes ?? 0) }
  }

  const ids = (rows: Record<string, unknown>[]): string[] => rows.map((row) => String(row.id))
  const documents = (rows: Record<string, unknown>[]): string[] => rows.map((row) => String(row.document))

  return {
    id: () => id,
    /** Its thread answers. */
    ping: (): void => {},
    /** JSON. */
    turns: (): string => String(sql.turns.get()?.value ?? '[]'),
    saveTurns: (turns: string): void => void sql.saveTurns.run(turns),
    /** Runs all of `work` with one write to the disk. */
    together: (work: () => void): void => transaction(work, () => true),
    session: (session: string): string | undefined => documents([sql.one.get(session) ?? []].flat())[0],
    sessions: ({ sql: text, values }: Statement): string[] => documents(db.prepare(text).all(...values)),
    targetUsage: (): (TargetUsage & { target: string })[] =>
      sql.targetUsage.all().map((row) => ({
        target: String(row.target),
        sessions: Number(row.sessions),
        cacheBytes: Number(row.bytes),
      })),
    sessionCounts: (): Partial<Record<SessionState, number>> =>
      Object.fromEntries(sql.counts.all().map((row) => [String(row.state), Number(row.sessions)])),
    addSession: (
      row: SessionRow,
      { history, answer, announcements, audit }: RowsWithSession,
      limits?: TargetLimits,
    ): Added =>
      transaction<Added>(
        () => {
          if (answer && !addAnswer(answer)) return { outcome: 'answered' }
          const taken = usage(row.target)
          if (isFull(taken, limits)) return { outcome: 'full', usage: taken }
          if (sql.insert.run(...columns(row), row.createdAt).changes === 0) return { outcome: 'id-taken' }
          addHistory(row.id, history)
          addAnnouncements(announcements)
          addAuditEntries(audit)
          return { outcome: 'added' }
        },
        ({ outcome }) => outcome === 'added',
      ),
    /** `row.version`: the new one. */
    saveSession: (row: SessionRow, { history, answer, announcements, audit }: RowsWithSession): Saved =>
      transaction<Saved>(
        () => {
          if (answer && !addAnswer(answer)) return 'answered'
          if (sql.update.run(...columns(row), row.version - 1).changes === 0) return 'stale'
          addHistory(row.id, history)
          addAnnouncements(announcements)
          addAuditEntries(audit)
          return 'saved'
        },
        (outcome) => outcome === 'saved',
      ),
    dueSessions: (now: number): string[] => ids(sql.due.all(now)),
    sessionsWithStep: (): string[] => ids(sql.withStep.all()),
    sessionsLeftBy: (online: readonly string[]): string[] => ids(sql.left.all(JSON.stringify(online))),
    sessionsReturnedTo: (online: readonly string[]): string[] =>
      ids(sql.returned.all(JSON.stringify(online))),
    sessionsOf: (column: 'target' | 'mount_agent', name: string): string[] =>
      ids((column === 'target' ? sql.ofTarget : sql.ofMountAgent).all(name)),
    history: (session: string, limit: number): string[] =>
      documents(sql.history.all(session, limit)).reverse(),
    announcements: (savedBefore: string): string[] => documents(sql.announcements.all(savedBefore)),
    announced: (announcements: readonly string[]): void =>
      void sql.announced.run(JSON.stringify(announcements)),
    answer: ({ sender, messageId }: CommandKey): AnswerRow | undefined => {
      const row = sql.answer.get(messageId, sender)
      if (!row) return undefined
      const [type, bodyHash, reply] = [row.type, row.body_hash, row.reply].map(String) as [
        string,
        string,
        string,
      ]
      return { sender, messageId, type, bodyHash, reply }
    },
    saveAnswer: (answer: NewAnswerRow): boolean => transaction(() => addAnswer(answer), Boolean),
    saveAuditEntry: (document: string): void => addAuditEntries([document]),
    auditEntries: (limit: number): EntryRow[] =>
      sql.auditEntries
        .all(limit)
        .map(({ number, document }) => ({ number: Number(number), document: String(document) })),
    audited: (numbers: readonly number[]): void => void sql.audited.run(JSON.stringify(numbers)),
    agents: (): string[] => documents(sql.agents.all()),
    saveAgent: (kind: string, name: string, document: string): void =>
      void sql.upsertAgent.run(kind, name, document),
    removeAgent: (kind: string, name: string, answer: NewAnswerRow): boolean =>
      transaction(
        () => addAnswer(answer) && Boolean(sql.removeAgent.run(kind, name)),
        (removed) => removed,
      ),
    enrolments: (): string[] => documents(sql.enrolments.all()),
    saveEnrolment: (kind: string, name: string, document: string): void =>
      void sql.upsertEnrolment.run(kind, name, document),
    /** `more`: whether there is more to prune. */
    prune: (before: string): { more: boolean; auditEntries: number } => {
      const [answers = 0, sessions = 0, auditEntries = 0] = [
        ...[sql.pruneAnswers, sql.pruneSessions, sql.pruneAudit],
      ].map((statement) => Number(statement.run(before, PRUNE_ROWS).changes))
      return { more: [answers, sessions, auditEntries].includes(PRUNE_ROWS), auditEntries }
    },
    close: (): void => db.close(),
  }
}

/** The file, which holds settings and pg_hba lines of clients, is readable by its owner only; SQLite gives its other files the same mode. */
function createPrivately(file: string): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  closeSync(openSync(file, 'a', 0o600))
  for (const suffix of ['', '-wal', '-shm']) if (existsSync(file + suffix)) chmodSync(file + suffix, 0o600)
}

function isFull(usage: TargetUsage, limits: TargetLimits | undefined): boolean {
  const { sessions = null, cacheBytes = null } = limits ?? {}
  return (
    (sessions !== null && usage.sessions >= sessions) ||
    (cacheBytes !== null && usage.cacheBytes >= cacheBytes)
  )
}
