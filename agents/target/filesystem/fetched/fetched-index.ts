/**
 * The index of one fetched store on disk: `index.sqlite` beside `blocks.data`, shared by all mount processes of that
 * backup. Blocking, so it is used by the thread that has the journal; the engine's side is fetched-store.ts.
 *
 * `blocks.data` is a sparse file of slots of one block each. A process reserves an extent of slots, writes blocks into it
 * in order of arrival, syncs, and only then saves which slot holds which block, with the block's checksum. So the index
 * never names a block that is not on disk, a slot that changed since is detected, and losing any of it only means to
 * fetch again. A slot is never allocated twice, and a data file is never recreated in place: processes that have an
 * older one open continue to use it.
 */
import { randomUUID } from 'node:crypto'
import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  statfsSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import type { Logger } from 'pino'
import { BLOCK } from '../contents/block-map.ts'
import { bytesOf, chunksOfRows, type FetchedChunk, merged, storeHeader } from './fetched-chunks.ts'
import { discardStoreNow, fetchedBytesOnDisk, STORE_FORMAT } from './fetched-stores.ts'

/** Slots reserved for one process. */
export interface FetchedExtent {
  readonly first: number
  readonly count: number
}

/** What the engine needs from an opened store; plain data. */
export interface FetchedState {
  /** The store's data file, open until the index is closed. Its path may refer to a newer file. */
  readonly fd: number
  readonly chunks: readonly FetchedChunk[]
  /** Undefined when there is no space. */
  readonly extent: FetchedExtent | undefined
}

export interface FetchedIndexOptions {
  /** The directory of all stores; created when missing. */
  readonly root: string
  readonly key: string
  /** Bytes that all stores together may use. */
  readonly budgetBytes: number
  /** Bytes to keep free on the file system. */
  readonly reserveBytes: number
  readonly logger: Logger
}

export interface FetchedIndex {
  readonly state: FetchedState
  /** Reserves the next slots, while `unused` of earlier ones are still free; undefined when budget or file system is full. */
  reserve(unused: number): FetchedExtent | undefined
  /**
   * Adds chunks whose blocks are on disk to the index; returns the chunks that other processes saved since the last call.
   * @throws the error of SQLite; nothing was saved then
   */
  save(chunks: readonly FetchedChunk[]): FetchedChunk[]
  /**
   * Removes blocks of a file from the index: those in `slots`, or all of its blocks. Processes that open the store later do
   * not find them. @throws the error of SQLite
   */
  drop(file: number, slots?: readonly number[]): void
  close(): void
}

/** Slots in one extent: 64 MiB. */
const EXTENT = 8192
/** Slot numbers have 32 bits. */
const MAX_SLOTS = 2 ** 32
const BUSY_MS = 2000

const SCHEMA = `
  CREATE TABLE store (format INTEGER NOT NULL, id TEXT NOT NULL, next INTEGER NOT NULL, revision INTEGER NOT NULL) STRICT;
  CREATE TABLE chunks (
    file INTEGER, chunk INTEGER, revision INTEGER NOT NULL, slots BLOB NOT NULL, checks BLOB NOT NULL,
    PRIMARY KEY (file, chunk)) STRICT, WITHOUT ROWID;
  CREATE INDEX chunks_by_revision ON chunks (revision);
`

interface StoreRow {
  readonly format: number
  readonly id: string
  readonly next: number
  readonly revision: number
}

/**
 * Opens or creates a store. One that is damaged or of another format is discarded and replaced by an empty one;
 * undefined when that fails, too: fetched blocks are then not kept.
 */
export function openFetchedIndex(options: FetchedIndexOptions): FetchedIndex | undefined {
  const { root, key, logger } = options
  const directory = `${root}/${key}`
  try {
    return openStore(directory, options)
  } catch (err) {
    if (isEnvironmental(err)) {
      logger.warn(
        { err, directory },
        'the store of fetched blocks cannot be opened now; no fetched block is kept',
      )
      return undefined
    }
    logger.warn(
      { err, directory },
      'a store of fetched blocks is damaged; it is discarded and replaced by an empty one',
    )
  }
  try {
    discardStoreNow(directory)
    return openStore(directory, options)
  } catch (err) {
    logger.error({ err, directory }, 'fetched blocks cannot be kept')
    return undefined
  }
}

/** SQLITE_BUSY, SQLITE_FULL. Source: sqlite3.h. */
const SQLITE_ENVIRONMENTAL = new Set([5, 13])
const SYSTEM_ENVIRONMENTAL = new Set([
  'ENOSPC',
  'EDQUOT',
  'EROFS',
  'EACCES',
  'EPERM',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
])

/** Whether an error is caused by the system, such as a full disk, and not by damage of the store. */
function isEnvironmental(error: unknown): boolean {
  const { code, errcode } = error as { code?: string; errcode?: number }
  return SYSTEM_ENVIRONMENTAL.has(code ?? '') || SQLITE_ENVIRONMENTAL.has((errcode ?? 0) & 0xff)
}

function openStore(directory: string, options: FetchedIndexOptions): FetchedIndex {
  const { root, budgetBytes, reserveBytes, logger } = options
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const dataPath = `${directory}/blocks.data`
  const database = new DatabaseSync(`${directory}/index.sqlite`, { timeout: BUSY_MS })
  let fd = -1
  let seen = 0
  let nameIsDurable = false

  function inTransaction<T>(work: () => T): T {
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

  const store = () => database.prepare('SELECT * FROM store').get() as unknown as StoreRow | undefined

  function reserve(unused: number): FetchedExtent | undefined {
    try {
      const { bsize, bavail } = statfsSync(directory)
      const room = Math.min(budgetBytes - fetchedBytesOnDisk(root), bsize * bavail - reserveBytes)
      const count = Math.min(EXTENT, Math.floor(room / BLOCK) - unused)
      if (count <= 0) return undefined
      return inTransaction(() => {
        const first = store()?.next ?? MAX_SLOTS
        if (first + count > MAX_SLOTS) return undefined
        // No block of a file that was damaged later can lie behind its end.
        ftruncateSync(fd, (first + count) * BLOCK)
        database.prepare('UPDATE store SET next = ?').run(first + count)
        return { first, count }
      })
    } catch (err) {
      logger.warn({ err, directory }, 'there is no room for fetched blocks')
      return undefined
    }
  }

  function load(): FetchedChunk[] {
    const { format, id, next, revision } = inTransaction(() => {
      const tables = database
        .prepare("SELECT count(*) AS count FROM sqlite_master WHERE name = 'store'")
        .get()
      if (tables?.count === 0) make()
      return store()
    }) ?? { format: 0, id: '', next: 0, revision: 0 }
    if (format !== STORE_FORMAT) throw new Error(`it has format ${format}`)
    fd = openSync(dataPath, constants.O_RDWR)
    const head = Buffer.from(storeHeader(id))
    const found = Buffer.alloc(head.length)
    readSync(fd, found, 0, found.length, 0)
    if (!found.equals(head)) throw new Error('index and data are of different stores')
    seen = revision
    const chunks = chunksOfRows(database.prepare('SELECT file, chunk, slots, checks FROM chunks').all())
    const end = chunks.reduce((last, { slots }) => slots.reduce((a, b) => Math.max(a, b), last), 0)
    if (end >= next) throw new Error('the index names blocks that were never reserved')
    if (end > 0) checkLength(fd, (end + 1) * BLOCK)
    return chunks
  }

  function make(): void {
    const id = randomUUID()
    // Sessions may have the file open that lost its index: theirs stays as it is, without a name.
    rmSync(dataPath, { force: true })
    const made = openSync(dataPath, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
    try {
      writeSync(made, storeHeader(id), 0)
    } finally {
      closeSync(made)
    }
    database.exec(SCHEMA)
    // Slot 0 is the header's, so that 0 can stand for a block that is not held.
    database.prepare('INSERT INTO store VALUES (?, ?, 1, 0)').run(STORE_FORMAT, id)
  }

  try {
    // A commit that a power cut takes back was of blocks that can be fetched again.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    const chunks = load()
    touch(directory)
    const state = { fd, chunks, extent: reserve(0) }
    const putChunk = database.prepare('INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?)')
    const getChunk = database.prepare(
      'SELECT file, chunk, slots, checks FROM chunks WHERE file = ? AND chunk = ?',
    )
    const chunksOf = database.prepare('SELECT file, chunk, slots, checks FROM chunks WHERE file = ?')
    const newer = database.prepare('SELECT file, chunk, slots, checks FROM chunks WHERE revision > ?')
    const put = ({ file, chunk, slots, checks }: FetchedChunk, revision: number) =>
      putChunk.run(file, chunk, revision, bytesOf(slots), bytesOf(checks))
    const nextRevision = (): number => {
      const revision = (store()?.revision ?? 0) + 1
      database.prepare('UPDATE store SET revision = ?').run(revision)
      return revision
    }

    return {
      state,
      reserve,

      save(added) {
        if (!nameIsDurable) {
          syncDirectory(directory)
          nameIsDurable = true
        }
        return inTransaction(() => {
          const others = chunksOfRows(newer.all(seen))
          const revision = nextRevision()
          for (const chunk of added) {
            const [held] = chunksOfRows(getChunk.all(chunk.file, chunk.chunk))
            put(merged(held, chunk), revision)
          }
          seen = revision
          return others
        })
      },

      drop(file, slots) {
        const unwanted = new Set(slots)
        inTransaction(() => {
          const revision = nextRevision()
          for (const chunk of chunksOfRows(chunksOf.all(file))) {
            for (const [at, slot] of chunk.slots.entries()) {
              if (slots === undefined || unwanted.has(slot)) chunk.slots[at] = 0
            }
            put(chunk, revision)
          }
        })
      },

      close() {
        database.close()
        closeSync(fd)
        touch(directory)
      },
    }
  } catch (error) {
    database.close()
    if (fd >= 0) closeSync(fd)
    throw error
  }
}

function checkLength(fd: number, length: number): void {
  const probe = Buffer.alloc(1)
  if (readSync(fd, probe, 0, 1, length - 1) !== 1) throw new Error(`its data end before byte ${length}`)
}

/** What a store's age is told by. */
function touch(directory: string): void {
  const now = new Date()
  try {
    utimesSync(directory, now, now)
  } catch {
    // It was removed while it was in use, and needs no age any more.
  }
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
