/** The tables of the SQLite store, and how a store of an earlier release is brought up to date. */
import type { DatabaseSync } from 'node:sqlite'
import { newStoreId, pendingMigrations, SCHEMA_VERSION } from './schema-version.ts'
import { sessionOf, sessionRow } from './session-row.ts'

/** What leads to each version from the one before. */
const MIGRATIONS: Readonly<Record<number, (db: DatabaseSync) => void>> = {
  1: (db) => db.exec(VERSION_1),
  2(db) {
    db.exec(VERSION_2)
    const open = db.prepare('SELECT id, document FROM session WHERE settled = 0').all()
    const update = db.prepare('UPDATE session SET next_due = ?, agent = ?, away = ? WHERE id = ?')
    for (const { id, document } of open) {
      const { nextDue, agent, away } = sessionRow(sessionOf(String(document)))
      update.run(nextDue, agent, away ? 1 : 0, String(id))
    }
    db.prepare("INSERT INTO meta (name, value) VALUES ('store', ?)").run(newStoreId())
  },
  3: (db) => db.exec(VERSION_3),
  4: (db) => db.exec(VERSION_4),
}

/**
 * Brings the tables to the present version, in one transaction.
 * @returns the id of the store
 * @throws HowdahError `configuration` when the store is newer than this program
 */
export function migrate(db: DatabaseSync): string {
  db.exec('BEGIN IMMEDIATE')
  try {
    for (const version of pendingMigrations(schemaVersion(db), 'store.path')) MIGRATIONS[version]?.(db)
    db.prepare(
      "INSERT INTO meta (name, value) VALUES ('schema', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    ).run(String(SCHEMA_VERSION))
    const id = db.prepare("SELECT value FROM meta WHERE name = 'store'").get()?.value
    db.exec('COMMIT')
    return String(id)
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

/** 0: an empty database. */
function schemaVersion(db: DatabaseSync): number {
  const exists = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")
  if (exists.get('meta'))
    return Number(db.prepare("SELECT value FROM meta WHERE name = 'schema'").get()?.value)
  return exists.get('session') ? 1 : 0
}

const VERSION_1 = `
  CREATE TABLE session (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    document TEXT NOT NULL
  ) STRICT;
  CREATE INDEX session_by_age ON session (settled, created_at);
  CREATE TABLE history (
    session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (session, number)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE answer (
    message_id TEXT PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    reply TEXT NOT NULL
  ) STRICT;
  CREATE TABLE agent (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, name)
  ) STRICT;
`

// The later columns of session_by_age are what lists filter by: a row that does not match is not read.
// The column message_id is gone, so that a program of version 1, which does not look for a version, fails at its start.
const VERSION_2 = `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  ALTER TABLE session ADD COLUMN state TEXT NOT NULL DEFAULT '';
  ALTER TABLE session ADD COLUMN repository TEXT NOT NULL DEFAULT '';
  ALTER TABLE session ADD COLUMN instance TEXT NOT NULL DEFAULT '';
  ALTER TABLE session ADD COLUMN target TEXT NOT NULL DEFAULT '';
  ALTER TABLE session ADD COLUMN mount_agent TEXT NOT NULL DEFAULT '';
  ALTER TABLE session ADD COLUMN reference TEXT;
  ALTER TABLE session ADD COLUMN labels TEXT;
  ALTER TABLE session ADD COLUMN next_due INTEGER;
  ALTER TABLE session ADD COLUMN agent TEXT;
  ALTER TABLE session ADD COLUMN away INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE session ADD COLUMN cache_bytes INTEGER NOT NULL DEFAULT 0;
  UPDATE session SET
    state = document ->> '$.state',
    repository = document ->> '$.request.repository',
    instance = document ->> '$.request.instance',
    target = document ->> '$.request.target',
    mount_agent = document ->> '$.mountAgent',
    cache_bytes = coalesce(document ->> '$.usage.cacheBytes', 0);
  DROP INDEX session_by_age;
  CREATE INDEX session_by_age ON session (created_at, id, state, target, repository, instance, updated_at, labels);
  CREATE INDEX session_by_reference ON session (reference, created_at) WHERE reference IS NOT NULL;
  CREATE INDEX session_open_by_age ON session (created_at, id) WHERE settled = 0;
  CREATE INDEX session_settled_by_update ON session (updated_at) WHERE settled = 1;
  CREATE INDEX session_due ON session (next_due) WHERE next_due IS NOT NULL;
  CREATE INDEX session_by_agent ON session (agent, away) WHERE agent IS NOT NULL;
  CREATE INDEX session_open_by_target ON session (target, state, cache_bytes) WHERE settled = 0;
  CREATE TABLE announcement (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,
    saved_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    document TEXT NOT NULL
  ) STRICT;
  CREATE TABLE bound_answer (
    sender TEXT NOT NULL,
    message TEXT NOT NULL,
    type TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    reply TEXT NOT NULL,
    PRIMARY KEY (message, sender)
  ) STRICT;
  INSERT INTO bound_answer SELECT '', message_id, '', '', created_at, reply FROM answer;
  DROP TABLE answer;
  ALTER TABLE bound_answer RENAME TO answer;
  CREATE INDEX answer_by_age ON answer (created_at);
`

const VERSION_3 = `
  CREATE TABLE enrolment (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, name)
  ) STRICT;
`

// AUTOINCREMENT: the number of an entry that was deleted is never given again.
const VERSION_4 = `
  CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    saved_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    document TEXT NOT NULL
  ) STRICT;
`
