/**
 * The metadata of a write cache in SQLite: attributes, contents (size and block map) and directory entries that differ
 * from the base tree. A commit is durable when it returns.
 */
import { DatabaseSync } from 'node:sqlite'
import type { MapChunk } from './block-map.ts'
import type { Ino } from './file-system.ts'

export interface AttributesRow {
  readonly ino: Ino
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly atime: number
  readonly mtime: number
  readonly ctime: number
  readonly target: string | null
}

export interface ContentsRow {
  readonly ino: Ino
  readonly size: number
  readonly baseSize: number
  /** Blocks, for statistics and the quota without reading every map. */
  readonly fetched: number
  readonly changed: number
}

export interface EntryRow {
  readonly parent: Ino
  readonly name: string
  /** 0: the name does not exist, whatever the base tree says. */
  readonly ino: Ino
}

export interface Batch {
  readonly attributes: readonly AttributesRow[]
  readonly contents: readonly { readonly row: ContentsRow; readonly chunks: readonly MapChunk[] }[]
  readonly entries: readonly EntryRow[]
  /** Inodes to forget entirely. */
  readonly freed: readonly Ino[]
}

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA locking_mode = EXCLUSIVE;
  CREATE TABLE IF NOT EXISTS attributes (
    ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, nlink INTEGER NOT NULL, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, atime REAL NOT NULL, mtime REAL NOT NULL, ctime REAL NOT NULL, target TEXT) STRICT;
  CREATE TABLE IF NOT EXISTS contents (
    ino INTEGER PRIMARY KEY, size INTEGER NOT NULL, base_size INTEGER NOT NULL, fetched INTEGER NOT NULL,
    changed INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS chunks (
    ino INTEGER, chunk INTEGER, map BLOB NOT NULL, PRIMARY KEY (ino, chunk)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS entries (
    parent INTEGER, name TEXT, ino INTEGER NOT NULL, PRIMARY KEY (parent, name)) STRICT, WITHOUT ROWID;
`

export type Journal = ReturnType<typeof openJournal>

/** Opens or makes the journal; another process that has it open makes this fail. */
export function openJournal(path: string) {
  const database = new DatabaseSync(path)
  database.exec(SCHEMA)
  const begin = database.prepare('BEGIN IMMEDIATE')
  const end = database.prepare('COMMIT')
  const rollback = database.prepare('ROLLBACK')
  const putAttributes = database.prepare(
    'INSERT OR REPLACE INTO attributes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
  )
  const putContents = database.prepare('INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)')
  const putChunk = database.prepare('INSERT OR REPLACE INTO chunks VALUES (?, ?, ?)')
  const dropChunk = database.prepare('DELETE FROM chunks WHERE ino = ? AND chunk = ?')
  const putEntry = database.prepare('INSERT OR REPLACE INTO entries VALUES (?, ?, ?)')
  const dropEntry = database.prepare('DELETE FROM entries WHERE parent = ? AND name = ?')
  const chunksOf = database.prepare('SELECT chunk, map FROM chunks WHERE ino = ?')
  const drops = ['attributes', 'contents', 'chunks'].map((table) =>
    database.prepare(`DELETE FROM ${table} WHERE ino = ?`),
  )

  return {
    attributes: () => database.prepare('SELECT * FROM attributes').all() as unknown as AttributesRow[],
    contents: () =>
      database
        .prepare('SELECT ino, size, base_size AS baseSize, fetched, changed FROM contents')
        .all() as unknown as ContentsRow[],
    entries: () => database.prepare('SELECT * FROM entries').all() as unknown as EntryRow[],
    chunks: (ino: Ino) => chunksOf.all(ino) as unknown as MapChunk[],

    /** Makes all of it durable, or throws and makes none of it. `isBase` tells which names need a mark when gone. */
    commit(batch: Batch, isBase: (parent: Ino, name: string) => boolean): void {
      begin.run()
      try {
        for (const row of batch.attributes) {
          putAttributes.run(
            row.ino,
            row.mode,
            row.nlink,
            row.uid,
            row.gid,
            row.atime,
            row.mtime,
            row.ctime,
            row.target,
          )
        }
        for (const { row, chunks } of batch.contents) {
          putContents.run(row.ino, row.size, row.baseSize, row.fetched, row.changed)
          for (const { chunk, map } of chunks) {
            if (map.length > 0) putChunk.run(row.ino, chunk, map)
            else dropChunk.run(row.ino, chunk)
          }
        }
        for (const { parent, name, ino } of batch.entries) {
          if (ino === 0 && !isBase(parent, name)) dropEntry.run(parent, name)
          else putEntry.run(parent, name, ino)
        }
        for (const ino of batch.freed) for (const drop of drops) drop.run(ino)
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
