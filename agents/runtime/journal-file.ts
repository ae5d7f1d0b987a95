/**
 * Owns the SQLite file of a journal: its lock, and the version of its schema. One process has the file at a time, and so
 * the state directory; the lock is the kernel's, and ends with the process however it ends.
 */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { ConfigurationError } from '../../config/configuration-error.ts'

/** Each brings a file of its index as version to the next one. They are never changed, only added to. */
const MIGRATIONS = [
  // A file of version 0 may have the table already: there was a time before versions.
  `CREATE TABLE IF NOT EXISTS step (
    session TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    direction TEXT NOT NULL,
    command TEXT NOT NULL,
    outcome TEXT,
    announced INTEGER NOT NULL DEFAULT 0,
    accepted_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (session, sequence)
  ) STRICT, WITHOUT ROWID;`,
]

/** How long the process before this one may take to let go of the file. Milliseconds. */
const LOCK_WAIT_MS = 5_000
/** SQLITE_BUSY (sqlite.org/rescode.html). */
const BUSY = 5

/**
 * Opens and locks the file; creates what is missing.
 * @throws ConfigurationError when another process has it, or a newer release wrote it
 */
export function openJournalFile(file: string, lockWaitMs = LOCK_WAIT_MS): DatabaseSync {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  const db = new DatabaseSync(file, { timeout: lockWaitMs })
  try {
    // Before WAL mode is used for the first time: without other readers it needs no shared memory.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    db.exec('BEGIN EXCLUSIVE')
    migrate(db, file)
    db.exec('COMMIT')
    return db
  } catch (error) {
    db.close()
    if ((error as { errcode?: number }).errcode !== BUSY) throw error
    throw new ConfigurationError(
      `stateDirectory: ${path.dirname(file)} is in use by another agent process; give each agent a directory of its own, and start each once`,
    )
  }
}

function migrate(db: DatabaseSync, file: string): void {
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version)
  if (version > MIGRATIONS.length) {
    throw new ConfigurationError(
      `stateDirectory: ${file} was written by a newer release of Howdah (version ${version} of the journal, this one knows up to ${MIGRATIONS.length}); start that release, or a newer one`,
    )
  }
  for (const migration of MIGRATIONS.slice(version)) db.exec(migration)
  db.exec(`PRAGMA user_version = ${MIGRATIONS.length}`)
}
