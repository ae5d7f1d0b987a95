/** The statements of the SQLite store. */
import type { DatabaseSync } from 'node:sqlite'
import type { SessionRow } from './session-row.ts'

const COLUMNS = [
  ...['version', 'settled', 'state', 'repository', 'instance', 'target', 'mount_agent', 'updated_at'],
  ...['next_due', 'agent', 'away', 'cache_bytes', 'reference', 'labels', 'document', 'id'],
]

/** In the order of `COLUMNS`. */
export function columns(row: SessionRow): (string | number | null)[] {
  const { version, settled, state, repository, instance, target, mountAgent, updatedAt } = row
  const { nextDue, agent, away, cacheBytes, reference, labels, document, id } = row
  return [
    ...[version, settled ? 1 : 0, state, repository, instance, target, mountAgent, updatedAt],
    ...[nextDue, agent, away ? 1 : 0, cacheBytes, reference, labels, document, id],
  ]
}

/** Prepared once. */
export function statements(db: DatabaseSync) {
  const assignments = COLUMNS.slice(0, -1).map((name) => `${name} = ?`)
  return {
    turns: db.prepare("SELECT value FROM meta WHERE name = 'turns'"),
    saveTurns: db.prepare(
      "INSERT INTO meta (name, value) VALUES ('turns', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    ),
    one: db.prepare('SELECT document FROM session WHERE id = ?'),
    insert: db.prepare(
      `INSERT OR IGNORE INTO session (${COLUMNS.join(', ')}, created_at) VALUES (${'?, '.repeat(COLUMNS.length)}?)`,
    ),
    update: db.prepare(`UPDATE session SET ${assignments.join(', ')} WHERE id = ? AND version = ?`),
    usage: db.prepare(
      `SELECT count(*) FILTER (WHERE state <> 'closed') AS sessions, sum(cache_bytes) AS bytes
       FROM session WHERE settled = 0 AND target = ?`,
    ),
    targetUsage: db.prepare(
      `SELECT target, count(*) FILTER (WHERE state <> 'closed') AS sessions, sum(cache_bytes) AS bytes
       FROM session WHERE settled = 0 GROUP BY target ORDER BY target`,
    ),
    counts: db.prepare('SELECT state, count(*) AS sessions FROM session WHERE settled = 0 GROUP BY state'),
    due: db.prepare('SELECT id FROM session WHERE next_due <= ? ORDER BY next_due'),
    withStep: db.prepare('SELECT id FROM session WHERE agent IS NOT NULL'),
    left: db.prepare(
      'SELECT id FROM session WHERE agent IS NOT NULL AND away = 0 AND agent NOT IN (SELECT value FROM json_each(?))',
    ),
    returned: db.prepare(
      'SELECT id FROM session WHERE agent IN (SELECT value FROM json_each(?)) AND away = 1',
    ),
    ofTarget: db.prepare('SELECT id FROM session WHERE settled = 0 AND target = ?'),
    ofMountAgent: db.prepare('SELECT id FROM session WHERE settled = 0 AND mount_agent = ?'),
    insertEntry: db.prepare('INSERT INTO history (session, number, document) VALUES (?, ?, ?)'),
    trimHistory: db.prepare('DELETE FROM history WHERE session = ? AND number <= ?'),
    history: db.prepare('SELECT document FROM history WHERE session = ? ORDER BY number DESC LIMIT ?'),
    insertAnnouncement: db.prepare(
      'INSERT OR IGNORE INTO announcement (id, session, version, number, document) VALUES (?, ?, ?, ?, ?)',
    ),
    announcements: db.prepare(
      'SELECT document FROM announcement WHERE saved_at <= ? ORDER BY session, version, number',
    ),
    announced: db.prepare('DELETE FROM announcement WHERE id IN (SELECT value FROM json_each(?))'),
    // An answer of schema version 1 has no sender, and holds for all.
    answer: db.prepare(
      `SELECT type, body_hash, reply FROM answer WHERE message = ? AND sender IN (?, '') ORDER BY sender DESC LIMIT 1`,
    ),
    insertAnswer: db.prepare(
      `INSERT INTO answer (sender, message, type, body_hash, reply) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO NOTHING`,
    ),
    insertAuditEntry: db.prepare('INSERT INTO audit (document) VALUES (?)'),
    auditEntries: db.prepare('SELECT number, document FROM audit ORDER BY number LIMIT ?'),
    audited: db.prepare('DELETE FROM audit WHERE number IN (SELECT value FROM json_each(?))'),
    agents: db.prepare('SELECT document FROM agent ORDER BY kind, name'),
    upsertAgent: db.prepare(
      `INSERT INTO agent (kind, name, document) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET document = excluded.document`,
    ),
    enrolments: db.prepare('SELECT document FROM enrolment ORDER BY kind, name'),
    upsertEnrolment: db.prepare(
      `INSERT INTO enrolment (kind, name, document) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET document = excluded.document`,
    ),
    removeAgent: db.prepare('DELETE FROM agent WHERE kind = ? AND name = ?'),
    pruneAnswers: db.prepare(
      'DELETE FROM answer WHERE rowid IN (SELECT rowid FROM answer WHERE created_at < ? LIMIT ?)',
    ),
    pruneAudit: db.prepare(
      'DELETE FROM audit WHERE number IN (SELECT number FROM audit WHERE saved_at < ? ORDER BY number LIMIT ?)',
    ),
    pruneSessions: db.prepare(
      'DELETE FROM session WHERE rowid IN (SELECT rowid FROM session WHERE settled = 1 AND updated_at < ? LIMIT ?)',
    ),
  }
}
