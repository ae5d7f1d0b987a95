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
import { closeSync, ftruncateSync, mkdirSync, statfsSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import type { Logger } from 'pino'
import { BLOCK } from '../contents/block-map.ts'
import { isNoSpace } from '../contents/local-error.ts'
import { COUNTED_AFTER_MS, countsLate } from '../space/free-space.ts'
import { bytesOf, chunksOfRows, type FetchedChunk, merged } from './fetched-chunks.ts'
import { discardStoreNow, fetchedBytesOnDisk } from './fetched-stores.ts'
import { inTransaction, openStoreFiles, storeRow, syncDirectory, touchDirectory } from './store-files.ts'

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
const SYSTEM_ENVIRONMENTAL = new Set(['EROFS', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOMEM'])

/** Whether an error is caused by the system, such as a full disk, and not by damage of the store. */
function isEnvironmental(error: unknown): boolean {
  const { code, errcode } = error as { code?: string; errcode?: number }
  return (
    isNoSpace(error) ||
    SYSTEM_ENVIRONMENTAL.has(code ?? '') ||
    SQLITE_ENVIRONMENTAL.has((errcode ?? 0) & 0xff)
  )
}

function openStore(directory: string, options: FetchedIndexOptions): FetchedIndex {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const { database, fd, chunks, revision } = openStoreFiles(directory)
  touchDirectory(directory)
  const isLate = countsLate(directory)
  /** Extents that the file system may not count as used yet. */
  let uncounted: { readonly bytes: number; readonly at: number }[] = []
  const reserve = (unused: number) => {
    const now = performance.now()
    uncounted = uncounted.filter(({ at }) => isLate && now - at < COUNTED_AFTER_MS)
    const reserveBytes = uncounted.reduce((sum, { bytes }) => sum + bytes, options.reserveBytes)
    const extent = reserveExtent(database, fd, unused, directory, { ...options, reserveBytes })
    if (extent) uncounted.push({ bytes: extent.count * BLOCK, at: now })
    return extent
  }
  try {
    return {
      state: { fd, chunks, extent: reserve(0) },
      reserve,
      ...createSavedChunks(database, directory, revision),
      close() {
        database.close()
        closeSync(fd)
        touchDirectory(directory)
      },
    }
  } catch (error) {
    database.close()
    closeSync(fd)
    throw error
  }
}

/** As `FetchedIndex.reserve`: takes the next slots, as many as budget and file system allow. Never throws. */
function reserveExtent(
  database: DatabaseSync,
  fd: number,
  unused: number,
  directory: string,
  { root, budgetBytes, reserveBytes, logger }: FetchedIndexOptions,
): FetchedExtent | undefined {
  try {
    const { bsize, bavail } = statfsSync(directory)
    const room = Math.min(budgetBytes - fetchedBytesOnDisk(root), bsize * bavail - reserveBytes)
    const count = Math.min(EXTENT, Math.floor(room / BLOCK) - unused)
    if (count <= 0) return undefined
    return inTransaction(database, () => {
      const first = storeRow(database)?.next ?? MAX_SLOTS
      if (first + count > MAX_SLOTS) return undefined
      // Every reserved slot lies within the file, so that a file cut short later is detected when the store is opened.
      ftruncateSync(fd, (first + count) * BLOCK)
      database.prepare('UPDATE store SET next = ?').run(first + count)
      return { first, count }
    })
  } catch (err) {
    logger.warn({ err, directory }, 'there is no space for fetched blocks')
    return undefined
  }
}

/** `save` and `drop` of a `FetchedIndex`. `loaded`: the revision of the chunks that were loaded. */
function createSavedChunks(
  database: DatabaseSync,
  directory: string,
  loaded: number,
): Pick<FetchedIndex, 'save' | 'drop'> {
  const putChunk = database.prepare('INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?)')
  const getChunk = database.prepare(
    'SELECT file, chunk, slots, checks FROM chunks WHERE file = ? AND chunk = ?',
  )
  const chunksOf = database.prepare('SELECT file, chunk, slots, checks FROM chunks WHERE file = ?')
  const newer = database.prepare('SELECT file, chunk, slots, checks FROM chunks WHERE revision > ?')
  let seen = loaded
  let nameIsDurable = false

  function put({ file, chunk, slots, checks }: FetchedChunk, revision: number): void {
    putChunk.run(file, chunk, revision, bytesOf(slots), bytesOf(checks))
  }

  function nextRevision(): number {
    const revision = (storeRow(database)?.revision ?? 0) + 1
    database.prepare('UPDATE store SET revision = ?').run(revision)
    return revision
  }

  return {
    save(added) {
      if (!nameIsDurable) {
        syncDirectory(directory)
        nameIsDurable = true
      }
      return inTransaction(database, () => {
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
      inTransaction(database, () => {
        const revision = nextRevision()
        for (const chunk of chunksOfRows(chunksOf.all(file))) {
          for (const [at, slot] of chunk.slots.entries()) {
            if (slots === undefined || unwanted.has(slot)) chunk.slots[at] = 0
          }
          put(chunk, revision)
        }
      })
    },
  }
}
