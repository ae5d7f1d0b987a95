/** The store in one SQLite file: nothing to install. One coordinator at a time. */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { HowdahError } from '../../messages/errors.ts'
import type { AgentView, HistoryEntry } from '../../messages/values.ts'
import { isSettled, type Session } from '../session.ts'
import { fromDocument, type SessionDocument, toDocument } from './session-document.ts'
import type { Store } from './store.ts'

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA busy_timeout = 5000;
  PRAGMA foreign_keys = ON;
  CREATE TABLE IF NOT EXISTS session (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    document TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS session_by_age ON session (settled, created_at);
  CREATE TABLE IF NOT EXISTS history (
    session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (session, number)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS answer (
    message_id TEXT PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    reply TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS agent (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, name)
  ) STRICT;
`

/** @throws HowdahError `configuration` when the file cannot be opened or is no store */
export function openSqliteStore(file: string): Store {
  let db: DatabaseSync
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
    db = new DatabaseSync(file)
    db.exec(SCHEMA)
  } catch (error) {
    throw new HowdahError(
      'configuration',
      `store.path: ${file} cannot be opened: ${(error as Error).message}`,
      {
        cause: error,
      },
    )
  }
  const one = db.prepare('SELECT document FROM session WHERE id = ?')
  const active = db.prepare('SELECT document FROM session WHERE settled = 0 ORDER BY created_at DESC LIMIT ?')
  const all = db.prepare('SELECT document FROM session ORDER BY created_at DESC LIMIT ?')
  const insert = db.prepare(
    'INSERT INTO session (id, version, settled, created_at, updated_at, document) VALUES (?, ?, ?, ?, ?, ?)',
  )
  const update = db.prepare(
    'UPDATE session SET version = ?, settled = ?, updated_at = ?, document = ? WHERE id = ? AND version = ?',
  )
  const insertEntry = db.prepare('INSERT INTO history (session, number, document) VALUES (?, ?, ?)')
  const readHistory = db.prepare(
    'SELECT document FROM history WHERE session = ? ORDER BY number DESC LIMIT ?',
  )
  const readAnswer = db.prepare('SELECT reply FROM answer WHERE message_id = ?')
  const insertAnswer = db.prepare('INSERT OR IGNORE INTO answer (message_id, reply) VALUES (?, ?)')
  const readAgents = db.prepare('SELECT document FROM agent ORDER BY kind, name')
  const upsertAgent = db.prepare(
    'INSERT INTO agent (kind, name, document) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET document = excluded.document',
  )
  const pruneAnswers = db.prepare('DELETE FROM answer WHERE created_at < ?')
  const pruneSessions = db.prepare('DELETE FROM session WHERE settled = 1 AND updated_at < ?')

  /** Commits what `work` did when that returns true, else rolls it back. */
  function transaction(work: () => boolean): boolean {
    db.exec('BEGIN IMMEDIATE')
    try {
      const commit = work()
      db.exec(commit ? 'COMMIT' : 'ROLLBACK')
      return commit
    } catch (error) {
      db.exec('ROLLBACK')
      throw error
    }
  }

  function addHistory(id: string, entries: readonly HistoryEntry[]): void {
    for (const entry of entries) insertEntry.run(id, entry.number, JSON.stringify(entry))
  }

  return {
    async session(id) {
      return sessionOf(one.get(id))
    },
    async sessions({ settled, limit = -1 }) {
      return (settled ? all : active).all(limit).map((row) => sessionOf(row) as Session)
    },
    async addSession(session, history, answer) {
      return transaction(() => {
        if (one.get(session.id) !== undefined || readAnswer.get(answer.messageId) !== undefined) return false
        insert.run(...columns(session))
        addHistory(session.id, history)
        insertAnswer.run(answer.messageId, JSON.stringify(answer.reply))
        return true
      })
    },
    async saveSession(session, history) {
      const next = { ...session, version: session.version + 1 }
      const [id, version, settled, , updatedAt, text] = columns(next)
      const saved = transaction(() => {
        if (update.run(version, settled, updatedAt, text, id, session.version).changes === 0) return false
        addHistory(id, history)
        return true
      })
      if (saved) session.version = next.version
      return saved
    },
    async history(id, limit) {
      return readHistory
        .all(id, limit)
        .map((row) => document<HistoryEntry>(row) as HistoryEntry)
        .reverse()
    },
    async answer(messageId) {
      const row = readAnswer.get(messageId)
      return row && (JSON.parse(String(row.reply)) as object)
    },
    async saveAnswer({ messageId, reply }) {
      insertAnswer.run(messageId, JSON.stringify(reply))
    },
    async agents() {
      return readAgents.all().map((row) => document<AgentView>(row) as AgentView)
    },
    async saveAgent(agent) {
      upsertAgent.run(agent.kind, agent.name, JSON.stringify(agent))
    },
    async prune(before) {
      pruneAnswers.run(before.toISOString())
      pruneSessions.run(before.toISOString())
    },
    async close() {
      db.close()
    },
  }
}

function columns(session: Session): [string, number, number, string, string, string] {
  const settled = isSettled(session)
  return [
    session.id,
    session.version,
    settled ? 1 : 0,
    session.createdAt,
    session.updatedAt,
    JSON.stringify(toDocument(session)),
  ]
}

function sessionOf(row: Record<string, unknown> | undefined): Session | undefined {
  const found = document<SessionDocument>(row)
  return found && fromDocument(found)
}

function document<T>(row: Record<string, unknown> | undefined): T | undefined {
  return row && (JSON.parse(String(row.document)) as T)
}
