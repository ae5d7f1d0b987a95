/**
 * The engine's services, implemented in this thread by the backup's source, the thread pool, the journal and the index of
 * fetched blocks. For an engine in this thread, and for calls from one in another.
 */
import { close, fdatasync, fsync, write } from 'node:fs'
import { promisify } from 'node:util'
import { errorBody, HowdahError } from '../../../../messages/errors.ts'
import type { BackupSource, FileRange, RangeData } from '../../../dataplane/backup-source.ts'
import type { Journal } from '../../filesystem/durability/journal.ts'
import type { FetchedIndex } from '../../filesystem/fetched/fetched-index.ts'
import type { Services } from '../../filesystem/services.ts'
import { withinDeadline } from '../program/deadline.ts'
import { createReadyWal, type ReadyWalOptions } from './ready-wal.ts'
import { syncFileSystem } from './sync-kernel.ts'

export interface LocalServicesOptions {
  readonly source: Pick<
    BackupSource,
    'read' | 'readMany' | 'walSize' | 'walRead' | 'walStored' | 'walReadStored'
  >
  readonly journal: Pick<Journal, 'commit'>
  readonly cachePath: string
  /** Undefined: fetched blocks are not kept. */
  readonly fetched?: Pick<FetchedIndex, 'reserve' | 'save' | 'drop'> | undefined
  /** Milliseconds that the repository may take to answer, reconnects included. */
  readonly readDeadlineMs: number
  /** Where WAL segments are made ready; undefined: they are read in the mount only. */
  readonly readyWal?: Omit<ReadyWalOptions, 'source'>
  /** Called when PostgreSQL has been told whether the archive has a file that it wants, with how long it waited. */
  readonly onWalWanted?: (found: boolean, milliseconds: number) => void
  /** Called when a read failed for which a request waits. */
  readonly onFailedRead?: (error: unknown) => void
}

export interface LocalServices extends Services {
  /** The next piece is read from the source when `onPiece` has resolved. */
  readMany(ranges: readonly FileRange[], onPiece: (piece: RangeData) => void | Promise<void>): Promise<void>
  /** Recovery has ended: removes ready WAL segments. Never rejects. */
  clearWal(): Promise<void>
}

/** SQLite's code for a database that cannot grow. Source: sqlite3.h. */
const SQLITE_FULL = 13
const fdatasyncAsync = promisify(fdatasync)
const fsyncAsync = promisify(fsync)
const closeAsync = promisify(close)
const writeAsync = promisify(write)

export function localServices(options: LocalServicesOptions): LocalServices {
  const { source, journal, fetched, readDeadlineMs, onWalWanted, onFailedRead } = options

  async function bounded<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await withinDeadline(readDeadlineMs, work)
    } catch (cause) {
      if (cause instanceof HowdahError) throw cause
      throw new HowdahError('repository_unavailable', errorBody(cause).message, { cause })
    }
  }

  /** Reports the failure of a read for which a request waits. */
  async function counted<T>(work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (error) {
      onFailedRead?.(error)
      throw error
    }
  }

  const read = <T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> => counted(bounded(work))
  const walSize = (name: string) => bounded(() => source.walSize(name))
  const walRead = (name: string, offset: number, length: number) =>
    bounded((signal) => source.walRead(name, offset, length, signal))
  const ready =
    options.readyWal &&
    createReadyWal({
      ...options.readyWal,
      source: {
        size: walSize,
        read: walRead,
        stored: (name) => bounded(() => source.walStored(name)),
        readStored: (name, offset, length) =>
          bounded((signal) => source.walReadStored(name, offset, length, signal)),
      },
    })

  return {
    read: (file, offset, length) =>
      read(async (signal) => {
        const data = await source.read(file, offset, length, signal)
        if (data.length === length) return data
        throw new HowdahError('backup_damaged', `the repository gave ${data.length} bytes of ${length}`)
      }),

    async readMany(ranges, onPiece) {
      const ended = new AbortController()
      const pieces = source.readMany(ranges, ended.signal)[Symbol.asyncIterator]()
      try {
        for (;;) {
          const next = await bounded(() => pieces.next())
          if (next.done) return
          await onPiece(next.value)
        }
      } finally {
        ended.abort()
      }
    },

    async walSize(name) {
      const startedAt = performance.now()
      const size = await counted(ready === undefined ? walSize(name) : ready.wanted(name))
      onWalWanted?.(size !== undefined, performance.now() - startedAt)
      return size
    },
    walRead: (name, offset, length) => counted(walRead(name, offset, length)),
    clearWal: async () => ready?.clear(),
    async write(fd, data, position) {
      for (let done = 0; done < data.length; ) {
        const { bytesWritten } = await writeAsync(fd, data, done, data.length - done, position + done)
        done += bytesWritten
      }
    },
    sync: (fd) => fdatasyncAsync(fd),
    syncDirectory: (fd) => fsyncAsync(fd),
    syncFileSystem: () => syncFileSystem(options.cachePath),
    close: (fd) => closeAsync(fd),

    async commit(batch) {
      try {
        journal.commit(batch)
      } catch (error) {
        if ((error as { errcode?: unknown }).errcode !== SQLITE_FULL) throw error
        throw Object.assign(new Error('there is no space for the journal', { cause: error }), {
          code: 'ENOSPC',
        })
      }
    },

    reserveFetched: async (unused) => fetched?.reserve(unused),
    saveFetched: async (chunks) => fetched?.save(chunks) ?? [],
    dropFetched: async (file, slots) => fetched?.drop(file, slots),
  }
}
