/**
 * The mounted file system, assembled: the base tree, the write cache over it, and the operations on both.
 *
 * This folder owns what a mount shows and what a session changes: names (`namespace/`), bytes (`contents/`), blocks of
 * the backup and their local copies (`reads/`, `fetched/`), the archive below `wal/`, when changes become durable
 * (`durability/`) and how much space they may take (`space/`). It must not touch the mount itself (its server may be
 * this very thread), the repository or the network (only through `Services`), PostgreSQL, or messages of the broker.
 *
 * The path of a request: a driver (`drivers/`) decodes it and calls a `FileSystem` method; directory-operations or
 * file-operations checks it and finds the inode; file-contents answers from the local file, else from the fetched
 * store, else waits for the read path, which asks `Services`; a change is recorded with durability, which commits it to
 * the journal. What local state can answer is answered synchronously.
 */
import type { Logger } from 'pino'
import { BLOCK } from './contents/block-map.ts'
import { DataFiles, type LocalIo } from './contents/data-files.ts'
import { FileContents } from './contents/file-contents.ts'
import { createFileOperations } from './contents/file-operations.ts'
import { FileRanges } from './contents/file-ranges.ts'
import { Durability } from './durability/durability.ts'
import type { JournalState } from './durability/journal.ts'
import type { FetchedState } from './fetched/fetched-index.ts'
import type { TouchedRecord } from './fetched/touched-record.ts'
import type { FileSystem, Ino } from './file-system.ts'
import { createDirectoryOperations } from './namespace/directory-operations.ts'
import { type Inode, isDirectory } from './namespace/inode.ts'
import { Inodes } from './namespace/inodes.ts'
import { Namespace } from './namespace/namespace.ts'
import type { DirectReads } from './reads/direct-reads.ts'
import { ReadPath } from './reads/read-path.ts'
import type { Services } from './services.ts'
import type { SpaceQuotas } from './space/change-quota.ts'
import { countsLate } from './space/free-space.ts'
import { Space, type SpaceLimits, type SpaceUsage } from './space/space.ts'
import { walUsageOf } from './space/wal-usage.ts'
import { type BaseTree, ROOT } from './tree/base-tree.ts'
import { WalDirectory } from './wal/wal-directory.ts'

export interface EngineOptions {
  readonly tree: BaseTree
  /** The write cache: a directory that only this engine uses; made when missing. */
  readonly cachePath: string
  /** The contents of the write cache's journal. */
  readonly journalState: JournalState
  readonly services: Services
  /** The fetched store; without it no fetched block is kept. */
  readonly fetched?: FetchedState | undefined
  /** Undefined: this thread answers all reads. */
  readonly directReads?: DirectReads | undefined
  /** The owner of everything that comes from the backup. */
  readonly owner: { readonly uid: number; readonly gid: number }
  readonly limits: SpaceLimits
  readonly logger: Logger
  /** Milliseconds since the epoch. */
  readonly clock?: () => number
  /** The functions of `node:fs` used for the local files. */
  readonly io?: LocalIo
}

export interface EngineStatistics extends SpaceUsage {
  /** Bytes read from the repository in this run. */
  readonly fetchedBytes: number
  /** Bytes of the backup. */
  readonly totalBytes: number
  /** Bytes of the backup that have a local copy, whichever session fetched them. */
  readonly fetchedStoreBytes: number
  /** The last failure to read the repository or the write cache. */
  readonly lastError: string | undefined
}

export interface Engine extends FileSystem {
  statistics(): EngineStatistics
  usage(): SpaceUsage
  /** Sets quota and share. Returns what the session uses, and may come to use under them. */
  limit(quotas: SpaceQuotas): SpaceUsage
  /** Sets the bytes of changes that the kernel may have accepted: `SpaceLimits.marginBytes`. */
  margin(bytes: number): void
  /** Regular files to which a driver holds references. */
  referencedFiles(): Ino[]
  /** Whether `syncChanged` has anything to do. */
  readonly unsynced: boolean
  /**
   * Makes names, attributes, sizes and newly changed blocks durable; call it every second while `unsynced`.
   * @throws FileSystemError EIO | ENOSPC; everything stays pending for the next call
   */
  syncChanged(): Promise<void>
  /** Whether `flushFetched` has anything to do. */
  readonly unflushed: boolean
  /** Saves the index of fetched blocks, for other sessions and for a restart. Never rejects: the next call retries. */
  flushFetched(): Promise<void>
  /** Fetches the blocks an earlier publish touched, in one request. Resolves when it completed or failed; never rejects. */
  prefetch(record: TouchedRecord): Promise<void>
  /** A block is damaged in the repository; it is not kept, and read from there each time. */
  noteDamaged(file: number, block: number): void
  /** PostgreSQL is being restarted, until `settled`: it may use space beyond quota and reserve. */
  starting(): void
  /** The instance is usable: returns the blocks touched so far; undefined on later calls. */
  settled(): TouchedRecord | undefined
  /** Makes everything durable. @throws as `syncChanged` */
  flush(): Promise<void>
  /** Makes everything durable and closes the local files. @throws as `syncChanged`; the files stay open */
  close(): Promise<void>
  /** Closes the local files without syncing, as a crash would. */
  abandon(): void
}

const MAX_OPEN_LOCAL_FILES = 1000
/** PostgreSQL's pg_control in the published tree; src/include/access/xlog_internal.h (XLOG_CONTROL_FILE), all versions. */
const CONTROL_FILE = ['data', 'global', 'pg_control']

/** Opens a write cache over a published tree, with all its durable changes. */
export function createEngine(options: EngineOptions): Engine {
  const parts = assemble(options)
  const { inodes, names, wal, space, durability } = parts
  const fileOperations = createFileOperations(parts)
  const control = createControl(parts, options)
  return {
    ...createDirectoryOperations(parts),
    ...fileOperations,

    async fsync(ino) {
      if (isControlFile(names, ino)) await control.flush()
      await fileOperations.fsync(ino)
    },

    fsyncdir: () => durability.syncNames(),

    remember(ino) {
      if (!wal.has(ino)) inodes.remember(ino)
    },

    forget(ino, count) {
      if (!wal.has(ino)) inodes.forget(ino, count)
    },

    statfs: () => space.statistics(),

    get nearFull() {
      return space.nearFull
    },

    flushed: () => space.flushed(),

    // Not spread: a getter would become its value.
    get unsynced() {
      return durability.unsynced
    },

    get unflushed() {
      return parts.readPath.unflushed
    },

    ...control,
  }
}

type Parts = ReturnType<typeof assemble>

/** Makes the parts of an engine, and frees what had no name left when the last run ended. */
function assemble(options: EngineOptions) {
  const { tree: base, owner, logger, cachePath, journalState, services, fetched, directReads } = options
  const now = nanoseconds(options.clock ?? Date.now)

  const files = new DataFiles({
    directory: `${cachePath}/files`,
    services,
    limit: MAX_OPEN_LOCAL_FILES,
    io: options.io,
  })
  const usedByWal = walUsageOf(`${cachePath}/pg_wal`)
  const space = new Space(cachePath, options.limits, usedByWal, countsLate(cachePath))
  const names = new Namespace(base, journalState.entries)
  const durability = new Durability({
    base,
    files,
    services,
    logger,
    entry: (parent, name) => names.lookup(parent, name),
  })
  const inodes = new Inodes({
    base,
    journalState,
    files,
    owner,
    onDropped: (blocks) => space.release(blocks),
    onFree,
  })
  const readPath = new ReadPath({ base, services, fetched, directReads, logger })
  const contents = new FileContents({ files, readPath, space, durability, now })
  const ranges = new FileRanges({ contents, files, space, durability, now })
  const walIno = base.lookup(ROOT, 'wal')
  const wal = new WalDirectory({ services, owner, mtime: now(), logger })

  function onFree(inode: Inode): void {
    space.release(inode.map.changed)
    files.removeOpen(inode)
    durability.freed(inode)
    if (isDirectory(inode)) names.forget(inode.ino)
  }

  space.changedBytes = inodes.changedBefore * BLOCK
  space.check()
  for (const { parent, ino } of journalState.entries) {
    if (ino !== 0 && inodes.isDirectory(ino)) names.noteParent(ino, parent)
  }
  for (const orphan of inodes.orphans()) inodes.freeIfUnused(orphan)
  return { base, files, space, names, durability, inodes, readPath, contents, ranges, wal, walIno, now }
}

/** What an engine offers beside the operations: syncing, limits, statistics, prefetching and closing. */
function createControl(
  { base, files, space, durability, inodes, readPath, contents }: Parts,
  { logger, services }: EngineOptions,
): Omit<Engine, keyof FileSystem | 'unsynced' | 'unflushed'> {
  let changedSync: Promise<void> | undefined

  // Space of truncated and removed files is freed by the commit that records it; start that commit now, not at the next timer.
  space.onDiskFull = () => {
    if (!durability.unsynced) return
    syncChanged().catch((err: unknown) => logger.error({ err }, 'the write cache could not be synced'))
  }

  let counting = false
  space.onUncounted = () => {
    if (counting) return
    counting = true
    const { uncountedBytes } = space
    services
      .syncFileSystem()
      .then(() => space.counted(uncountedBytes))
      .catch((err: unknown) => logger.warn({ err }, 'the file system of the write cache could not be synced'))
      .finally(() => {
        counting = false
      })
  }

  function syncChanged(): Promise<void> {
    space.check()
    changedSync ??= durability.syncChanged().finally(() => {
      changedSync = undefined
    })
    return changedSync
  }

  /** Makes every write received so far durable, those that wait for a missing block included. */
  async function flush(): Promise<void> {
    await contents.written()
    await durability.syncAll()
  }

  return {
    statistics() {
      return {
        fetchedBytes: readPath.fetchedBytes,
        totalBytes: base.totalBytes,
        fetchedStoreBytes: readPath.heldBytes,
        ...space.usage(),
        lastError: contents.lastError ?? readPath.lastError,
      }
    },

    usage: () => space.usage(),

    limit(quotas) {
      space.limit(quotas)
      return space.usage()
    },

    margin: (bytes) => space.setMargin(bytes),
    referencedFiles: () => inodes.referencedFiles(),
    syncChanged,
    flushFetched: () => readPath.flush(),
    prefetch: (record) => readPath.prefetch(record),
    noteDamaged: (file, block) => readPath.noteDamaged(file, block),

    starting() {
      space.starting = true
    },

    settled() {
      space.starting = false
      return readPath.settled()
    },

    flush,

    async close() {
      await flush()
      durability.stop()
      await readPath.flush()
      readPath.close()
      files.close()
    },

    abandon() {
      durability.stop()
      readPath.close()
      files.close()
    },
  }
}

/**
 * PostgreSQL begins crash recovery with syncfs(2) or with fsync(2) of everything, then records in pg_control that it is in
 * recovery. A FUSE server sees only the writes that syncfs causes, not the call itself. So a sync of this file makes
 * everything written before it durable, before redo relies on it to skip changes.
 */
function isControlFile(names: Namespace, ino: Ino): boolean {
  return (
    ino !== ROOT && ino === CONTROL_FILE.reduce((at, name) => (at === 0 ? 0 : names.lookup(at, name)), ROOT)
  )
}

/** The clock in nanoseconds since the epoch. */
function nanoseconds(clock: () => number): () => bigint {
  let milliseconds = 0
  let now = 0n
  return () => {
    const reading = Math.floor(clock())
    // A busy engine makes most calls within the same millisecond as the previous one.
    if (reading !== milliseconds) {
      milliseconds = reading
      now = BigInt(reading) * 1_000_000n
    }
    return now
  }
}
