/**
 * The metadata of a write cache in SQLite: attributes, contents (size and block map) and directory entries that differ
 * from the base tree. A commit is durable when it returns. Blocking, so the engine reaches it through its services.
 */
import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { HowdahError } from '../../../../messages/errors.ts'
import type { MapChunk } from '../contents/block-map.ts'
import type { Ino } from '../file-system.ts'

export interface AttributesRow {
  readonly ino: Ino
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly rdev: number
  /** Nanoseconds since the epoch. */
  readonly atime: bigint
  readonly mtime: bigint
  readonly ctime: bigint
  readonly target: string | null
}

export interface ContentsRow {
  readonly ino: Ino
  readonly size: number
  readonly baseSize: number
  /** Number of changed blocks, so that the quota needs no counting of maps. */
  readonly changed: number
}

export interface EntryRow {
  readonly parent: Ino
  readonly name: string
  /** 0: the name does not exist, even if the base tree has it. */
  readonly ino: Ino
}

/** Contents of one file, with those chunks of its map that changed. */
export interface ContentsRecord {
  readonly row: ContentsRow
  readonly chunks: readonly MapChunk[]
}

/** Everything in the journal; plain data, which can be sent to another thread. */
export interface JournalState {
  readonly attributes: readonly AttributesRow[]
  readonly contents: readonly ContentsRecord[]
  readonly entries: readonly EntryRow[]
}

/** The changes of one commit; plain data. */
export interface Batch {
  readonly attributes: readonly AttributesRow[]
  readonly contents: readonly ContentsRecord[]
  /** `ino` null: the name is as in the base tree. */
  readonly entries: readonly (Omit<EntryRow, 'ino'> & { readonly ino: Ino | null })[]
  /** Inodes whose rows are deleted. */
  readonly freed: readonly Ino[]
}

/** `PRAGMA user_version`. A journal with tables but without a version predates versions. */
const SCHEMA_VERSION = 2

const SCHEMA = `
  CREATE TABLE attributes (
    ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, nlink INTEGER NOT NULL, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, rdev INTEGER NOT NULL, atime INTEGER NOT NULL, mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL, target TEXT) STRICT;
  CREATE TABLE contents (
    ino INTEGER PRIMARY KEY, size INTEGER NOT NULL, base_size INTEGER NOT NULL, changed INTEGER NOT NULL) STRICT;
  CREATE TABLE chunks (
    ino INTEGER, chunk INTEGER, map BLOB NOT NULL, PRIMARY KEY (ino, chunk)) STRICT, WITHOUT ROWID;
  CREATE TABLE entries (
    parent INTEGER, name TEXT, ino INTEGER NOT NULL, PRIMARY KEY (parent, name)) STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${SCHEMA_VERSION};
`

/** Another process may be reading it, see `readJournal`. */
const BUSY_MS = 5000

export type Journal = ReturnType<typeof openJournal>

/** Distinguishes the journal of one write cache from any other. Journals that predate identities have no such row. */
const IDENTITY = 'CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL) STRICT'

/** The journal expected; `fresh`: it is to be created. */
export interface JournalIdentity {
  readonly id: string
  readonly fresh: boolean
}

/**
 * Opens or creates the journal; fails when another process has it open.
 * @param identity undefined: any journal is accepted
 * @throws HowdahError `cache_unusable` when the file is of another version, belongs to another write cache, or is missing
 */
export function openJournal(path: string, identity?: JournalIdentity) {
  if (identity?.fresh === false && !existsSync(path)) throw journalMissing(path)
  const database = new DatabaseSync(path, { timeout: BUSY_MS })
  try {
    database.exec(
      'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN IMMEDIATE',
    )
    if (!isEmpty(database)) requireVersion(database, path)
    else if (identity?.fresh === false) throw journalMissing(path)
    else database.exec(SCHEMA)
    if (identity !== undefined) requireIdentity(database, path, identity.id)
    database.exec('COMMIT')
  } catch (error) {
    database.close()
    throw error
  }
  const begin = database.prepare('BEGIN IMMEDIATE')
  const end = database.prepare('COMMIT')
  const rollback = database.prepare('ROLLBACK')
  const putAttributes = database.prepare(
    'INSERT OR REPLACE INTO attributes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
  )
  const putContents = database.prepare('INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)')
  const putChunk = database.prepare('INSERT OR REPLACE INTO chunks VALUES (?, ?, ?)')
  const dropChunk = database.prepare('DELETE FROM chunks WHERE ino = ? AND chunk = ?')
  const putEntry = database.prepare('INSERT OR REPLACE INTO entries VALUES (?, ?, ?)')
  const dropEntry = database.prepare('DELETE FROM entries WHERE parent = ? AND name = ?')
  const drops = ['attributes', 'contents', 'chunks'].map((table) =>
    database.prepare(`DELETE FROM ${table} WHERE ino = ?`),
  )

  function apply(batch: Batch): void {
    for (const { ino, mode, nlink, uid, gid, rdev, atime, mtime, ctime, target } of batch.attributes) {
      putAttributes.run(ino, mode, nlink, uid, gid, rdev, atime, mtime, ctime, target)
    }
    for (const { row, chunks } of batch.contents) {
      putContents.run(row.ino, row.size, row.baseSize, row.changed)
      for (const { chunk, map } of chunks) {
        if (map.length > 0) putChunk.run(row.ino, chunk, map)
        else dropChunk.run(row.ino, chunk)
      }
    }
    for (const { parent, name, ino } of batch.entries) {
      if (ino === null) dropEntry.run(parent, name)
      else putEntry.run(parent, name, ino)
    }
    for (const ino of batch.freed) for (const drop of drops) drop.run(ino)
  }

  return {
    ...reading(database),

    /** Makes all of the batch durable, or throws and makes none of it durable. */
    commit(batch: Batch): void {
      begin.run()
      try {
        apply(batch)
        end.run()
      } catch (error) {
        if (database.isTransaction) rollback.run()
        throw error
      }
    },

    close(): void {
      database.close()
    },
  }
}

/**
 * Opens, read-only, a journal that no mount process has open; undefined when there is none.
 * @throws HowdahError `cache_unusable` when it is of another version or another write cache; the error of SQLite
 */
export function readJournal(path: string, id: string | undefined): JournalReading | undefined {
  if (!existsSync(path)) return undefined
  const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  try {
    if (isEmpty(database)) throw journalMissing(path)
    requireVersion(database, path)
    if (id !== undefined && (identityOf(database) ?? id) !== id) throw journalMismatch(path)
    return { ...reading(database), close: () => database.close() }
  } catch (error) {
    database.close()
    throw error
  }
}

export type JournalReading = Pick<Journal, 'load' | 'check' | 'close'>

function reading(database: DatabaseSync) {
  return {
    /** Everything that is durable. */
    load(): JournalState {
      const chunks = Map.groupBy(
        database.prepare('SELECT ino, chunk, map FROM chunks').all() as unknown as (MapChunk & {
          ino: Ino
        })[],
        ({ ino }) => ino,
      )
      const contents = database
        .prepare('SELECT ino, size, base_size AS baseSize, changed FROM contents')
        .all() as unknown as ContentsRow[]
      return {
        attributes: loadAttributes(database),
        contents: contents.map((row) => ({ row, chunks: chunks.get(row.ino) ?? [] })),
        entries: database.prepare('SELECT parent, name, ino FROM entries').all() as unknown as EntryRow[],
      }
    },

    /** The first damage that SQLite finds in the file; undefined: none. */
    check(): string | undefined {
      const [found] = database.prepare('PRAGMA quick_check(1)').all().flatMap(Object.values)
      return found === 'ok' ? undefined : String(found)
    },
  }
}

function isEmpty(database: DatabaseSync): boolean {
  return database.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined
}

/** A new, empty journal would silently reset the instance to its state in the backup. */
function journalMissing(path: string): HowdahError {
  return new HowdahError(
    'cache_unusable',
    `the journal ${path} of the write cache is missing, and with it the changes since publishing: ` +
      'restore the file and retry, or publish the session again from the backup',
  )
}

function journalMismatch(path: string): HowdahError {
  return new HowdahError(
    'cache_unusable',
    `the journal ${path} belongs to another write cache: restore the session's own and retry, ` +
      'or publish the session again from the backup',
  )
}

function requireIdentity(database: DatabaseSync, path: string, id: string): void {
  const found = identityOf(database)
  if (found !== undefined && found !== id) throw journalMismatch(path)
  if (found !== undefined) return
  database.exec(IDENTITY)
  database.prepare('INSERT INTO identity VALUES (?)').run(id)
}

function identityOf(database: DatabaseSync): unknown {
  const table = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'identity'").get()
  return table && database.prepare('SELECT id FROM identity').get()?.id
}

function requireVersion(database: DatabaseSync, path: string): void {
  const version = database.prepare('PRAGMA user_version').get()?.user_version
  if (version === SCHEMA_VERSION) return
  throw new HowdahError(
    'cache_unusable',
    `the journal ${path} of the write cache has version ${version}, this Howdah reads version ${SCHEMA_VERSION}: ` +
      'use the version that published the session, or unpublish it',
  )
}

/** Times exceed what a number holds exactly and stay bigint; everything else becomes a number. */
function loadAttributes(database: DatabaseSync): AttributesRow[] {
  const select = database.prepare('SELECT * FROM attributes')
  select.setReadBigInts(true)
  return (select.all() as unknown as Record<keyof AttributesRow, bigint>[]).map((row) => ({
    ino: Number(row.ino),
    mode: Number(row.mode),
    nlink: Number(row.nlink),
    uid: Number(row.uid),
    gid: Number(row.gid),
    rdev: Number(row.rdev),
    atime: row.atime,
    mtime: row.mtime,
    ctime: row.ctime,
    target: row.target as unknown as string | null,
  }))
}
