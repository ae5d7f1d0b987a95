/**
 * The metadata of a write cache in SQLite: attributes, contents (size and block map) and directory entries that differ
 * from the base tree. A commit is durable when it returns. The engine never calls this: its services do.
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
  /** Blocks, for the quota without counting in every map. */
  readonly changed: number
}

export interface EntryRow {
  readonly parent: Ino
  readonly name: string
  /** 0: the name does not exist, whatever the base tree says. */
  readonly ino: Ino
}

/** Contents of one file; of its map the chunks that are told of. */
export interface ContentsRecord {
  readonly row: ContentsRow
  readonly chunks: readonly MapChunk[]
}

/** All that the journal holds; plain data, which can be sent to another thread. */
export interface JournalState {
  readonly attributes: readonly AttributesRow[]
  readonly contents: readonly ContentsRecord[]
  readonly entries: readonly EntryRow[]
}

/** What one commit changes; plain data. */
export interface Batch {
  readonly attributes: readonly AttributesRow[]
  readonly contents: readonly ContentsRecord[]
  /** `ino` null: the name is as the base tree has it. */
  readonly entries: readonly (Omit<EntryRow, 'ino'> & { readonly ino: Ino | null })[]
  /** Inodes to forget entirely. */
  readonly freed: readonly Ino[]
}

/** Of `PRAGMA user_version`. A journal without one, but with tables, is of the time before versions. */
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

/** Somebody may just look at it, see `readJournal`. */
const BUSY_MS = 5000

export type Journal = ReturnType<typeof openJournal>

/** Tells the journal of one write cache from any other. Journals of the time before identities have no such row. */
const IDENTITY = 'CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL) STRICT'

/** Which journal is to be opened; `fresh`: it is still to be made. */
export interface JournalIdentity {
  readonly id: string
  readonly fresh: boolean
}

/**
 * Opens or makes the journal; another process that has it open makes this fail.
 * @param identity none: whatever is there is taken
 * @throws HowdahError `cache_unusable` when the file is not of this version, is another one's, or is gone
 */
export function openJournal(path: string, identity?: JournalIdentity) {
  if (identity?.fresh === false && !existsSync(path)) throw gone(path)
  const database = new DatabaseSync(path, { timeout: BUSY_MS })
  try {
    database.exec(
      'PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN IMMEDIATE',
    )
    if (!isEmpty(database)) requireVersion(database, path)
    else if (identity?.fresh === false) throw gone(path)
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

    /** Makes all of it durable, or throws and makes none of it. */
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
 * A journal that no mount process has open, to be looked at; undefined when there is none. It stays as it is.
 * @throws HowdahError `cache_unusable` when it is of another version or another write cache; the error of SQLite
 */
export function readJournal(path: string, id: string | undefined): JournalReading | undefined {
  if (!existsSync(path)) return undefined
  const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  try {
    if (isEmpty(database)) throw gone(path)
    requireVersion(database, path)
    if (id !== undefined && (identityOf(database) ?? id) !== id) throw another(path)
    return { ...reading(database), close: () => database.close() }
  } catch (error) {
    database.close()
    throw error
  }
}

export type JournalReading = Pick<Journal, 'load' | 'check' | 'close'>

function reading(database: DatabaseSync) {
  return {
    /** What is durable. */
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

    /** What SQLite finds wrong with the file; undefined: nothing. */
    check(): string | undefined {
      const [found] = database.prepare('PRAGMA quick_check(1)').all().flatMap(Object.values)
      return found === 'ok' ? undefined : String(found)
    },
  }
}

function isEmpty(database: DatabaseSync): boolean {
  return database.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined
}

/** Without what was changed, the instance would come back as it was in the backup, as if nothing had happened. */
function gone(path: string): HowdahError {
  return new HowdahError(
    'cache_unusable',
    `the journal ${path} of the write cache is gone, and with it what was changed since publishing: ` +
      'bring it back and retry, or publish the session anew from the backup',
  )
}

function another(path: string): HowdahError {
  return new HowdahError(
    'cache_unusable',
    `the journal ${path} belongs to another write cache: bring the session's own back and retry, ` +
      'or publish the session anew from the backup',
  )
}

function requireIdentity(database: DatabaseSync, path: string, id: string): void {
  const found = identityOf(database)
  if (found !== undefined && found !== id) throw another(path)
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
      'go on with the version that published the session, or unpublish it',
  )
}

/** Times exceed what a number holds exactly; everything else is given as numbers. */
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
