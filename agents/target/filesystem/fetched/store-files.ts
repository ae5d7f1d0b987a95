/**
 * The two files of a fetched store, `index.sqlite` and `blocks.data`: creates them, and opens them only when they belong
 * together and are complete. What is reserved and saved in them is fetched-index.ts's concern.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, constants, fsyncSync, openSync, readSync, rmSync, utimesSync, writeSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { BLOCK } from '../contents/block-map.ts'
import { chunksOfRows, type FetchedChunk, storeHeader } from './fetched-chunks.ts'
import { STORE_FORMAT } from './fetched-stores.ts'

export interface StoreFiles {
  readonly database: DatabaseSync
  /** `blocks.data`. */
  readonly fd: number
  readonly chunks: FetchedChunk[]
  /** The revision of the index that `chunks` are of. */
  readonly revision: number
}

/** The only row of the table `store`. */
export interface StoreRow {
  readonly format: number
  readonly id: string
  /** The first slot that is not reserved. */
  readonly next: number
  readonly revision: number
}

const BUSY_MS = 2000

const SCHEMA = `
  CREATE TABLE store (format INTEGER NOT NULL, id TEXT NOT NULL, next INTEGER NOT NULL, revision INTEGER NOT NULL) STRICT;
  CREATE TABLE chunks (
    file INTEGER, chunk INTEGER, revision INTEGER NOT NULL, slots BLOB NOT NULL, checks BLOB NOT NULL,
    PRIMARY KEY (file, chunk)) STRICT, WITHOUT ROWID;
  CREATE INDEX chunks_by_revision ON chunks (revision);
`

/**
 * Opens the files of a store in an existing directory, which are created when there is no index.
 * @throws Error when they are damaged, or of another format; the error of SQLite or of the file system
 */
export function openStoreFiles(directory: string): StoreFiles {
  const dataPath = `${directory}/blocks.data`
  const database = new DatabaseSync(`${directory}/index.sqlite`, { timeout: BUSY_MS })
  let fd = -1
  try {
    // A commit lost by a power cut names only blocks that can be fetched again.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    const row = inTransaction(database, () => {
      if (!hasTables(database)) create(database, dataPath)
      return storeRow(database)
    })
    if (row?.format !== STORE_FORMAT) throw new Error(`it has format ${row?.format ?? 0}`)
    fd = openSync(dataPath, constants.O_RDWR)
    requireHeader(fd, row.id)
    const chunks = chunksOfRows(database.prepare('SELECT file, chunk, slots, checks FROM chunks').all())
    requireSlots(fd, chunks, row.next)
    return { database, fd, chunks, revision: row.revision }
  } catch (error) {
    database.close()
    if (fd >= 0) closeSync(fd)
    throw error
  }
}

export function storeRow(database: DatabaseSync): StoreRow | undefined {
  return database.prepare('SELECT * FROM store').get() as unknown as StoreRow | undefined
}

/** Commits what `work` does, or rolls it back when it throws. */
export function inTransaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    database.exec('COMMIT')
    return result
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function hasTables(database: DatabaseSync): boolean {
  const tables = database.prepare("SELECT count(*) AS count FROM sqlite_master WHERE name = 'store'").get()
  return tables?.count !== 0
}

function create(database: DatabaseSync, dataPath: string): void {
  const id = randomUUID()
  // Sessions may have the data file of a lost index open: it is unlinked, not overwritten.
  rmSync(dataPath, { force: true })
  const fd = openSync(dataPath, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    writeSync(fd, storeHeader(id), 0)
  } finally {
    closeSync(fd)
  }
  database.exec(SCHEMA)
  // Slot 0 has the header, so that 0 can stand for a block that is not held.
  database.prepare('INSERT INTO store VALUES (?, ?, 1, 0)').run(STORE_FORMAT, id)
}

function requireHeader(fd: number, id: string): void {
  const expected = Buffer.from(storeHeader(id))
  const found = Buffer.alloc(expected.length)
  readSync(fd, found, 0, found.length, 0)
  if (!found.equals(expected)) throw new Error('index and data are of different stores')
}

/** All slots named by the index must be reserved, and within the data file. */
function requireSlots(fd: number, chunks: readonly FetchedChunk[], next: number): void {
  const last = chunks.reduce((most, { slots }) => slots.reduce((a, b) => Math.max(a, b), most), 0)
  if (last >= next) throw new Error('the index names blocks that were never reserved')
  if (last === 0) return
  const length = (last + 1) * BLOCK
  if (readSync(fd, Buffer.alloc(1), 0, 1, length - 1) !== 1) {
    throw new Error(`its data end before byte ${length}`)
  }
}

/** Sets the modification time, by which the age of a store is measured. */
export function touchDirectory(directory: string): void {
  const now = new Date()
  try {
    utimesSync(directory, now, now)
  } catch {
    // The store was removed while it was in use, so its age no longer matters.
  }
}

export function syncDirectory(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
