/**
 * The mounted file system, put together: the base tree, the write cache over it, and the operations on both. How
 * requests arrive is a driver's.
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
import type { Inode } from './namespace/inode.ts'
import { Inodes } from './namespace/inodes.ts'
import { Namespace } from './namespace/namespace.ts'
import type { DirectReads } from './reads/direct-reads.ts'
import { ReadPath } from './reads/read-path.ts'
import type { Services } from './services.ts'
import { Space, type SpaceLimits } from './space/space.ts'
import { type BaseTree, ROOT, S_IFDIR, S_IFMT } from './tree/base-tree.ts'
import { WalDirectory } from './wal/wal-directory.ts'

export interface EngineOptions {
  readonly tree: BaseTree
  /** The write cache: a directory that only this engine uses; made when missing. */
  readonly cachePath: string
  /** What the write cache's journal has. */
  readonly journalState: JournalState
  readonly services: Services
  /** Where blocks of the backup are kept; nothing that is fetched is kept without. */
  readonly fetched?: FetchedState | undefined
  /** None: the engine's thread answers all reads. */
  readonly directReads?: DirectReads | undefined
  /** To whom everything of the backup belongs. */
  readonly owner: { readonly uid: number; readonly gid: number }
  readonly limits: SpaceLimits
  readonly logger: Logger
  /** Milliseconds since the epoch. */
  readonly clock?: () => number
  /** What is used of `node:fs` for the local files. */
  readonly io?: LocalIo
}

export interface EngineStatistics {
  /** Bytes that came from the repository in this run. */
  readonly fetchedBytes: number
  /** Bytes of the backup. */
  readonly totalBytes: number
  /** Bytes of the backup that are held locally, by whatever session they were fetched. */
  readonly fetchedStoreBytes: number
  /** Bytes that the session's changes take. */
  readonly changedBytes: number
  /** The last failure to read the repository or the write cache. */
  readonly lastError: string | undefined
}

export interface Engine extends FileSystem {
  statistics(): EngineStatistics
  /** Bytes that changes may take from now on. */
  limit(quotaBytes: number): void
  /** Bytes of changes that the kernel may have accepted from now on: `SpaceLimits.marginBytes`. */
  margin(bytes: number): void
  /** Regular files that a driver holds references to. */
  referencedFiles(): Ino[]
  /** Whether `syncChanged` has anything to do. */
  readonly unsynced: boolean
  /**
   * Makes names, attributes, sizes and newly changed blocks durable; to be called every second while there are any.
   * @throws FileSystemError EIO | ENOSPC; everything is kept for the next time
   */
  syncChanged(): Promise<void>
  /** Whether `flushFetched` has anything to do. */
  readonly unflushed: boolean
  /** Makes what was fetched findable by other sessions and after a restart. Never rejects: it is tried again. */
  flushFetched(): Promise<void>
  /** Fetches what an earlier publish touched, in one request. Resolves when it has come or failed; never rejects. */
  prefetch(record: TouchedRecord): Promise<void>
  /** A block of a file of the backup is damaged in the repository; it is read there each time. */
  noteDamaged(file: number, block: number): void
  /** PostgreSQL is started again, until `settled`: it gets room that others do not. */
  starting(): void
  /** The instance is usable: what was touched until now; undefined when it was told before. */
  settled(): TouchedRecord | undefined
  /** Makes everything durable. @throws as `syncChanged` */
  flush(): Promise<void>
  /** Makes everything durable and closes the local files. @throws as `syncChanged`, the files open still */
  close(): Promise<void>
  /** Closes the local files as they are, as a crash would leave them. */
  abandon(): void
}

const MAX_OPEN_LOCAL_FILES = 1000
/** PostgreSQL's, in the published tree; src/include/access/xlog_internal.h (XLOG_CONTROL_FILE), all versions. */
const CONTROL_FILE = ['data', 'global', 'pg_control']

/** Opens a write cache over a published tree, with everything that was durable in it. */
export function createEngine(options: EngineOptions): Engine {
  const { tree: base, owner, logger, cachePath, journalState, services } = options
  const now = nanoseconds(options.clock ?? Date.now)

  const files = new DataFiles({
    directory: `${cachePath}/files`,
    services,
    limit: MAX_OPEN_LOCAL_FILES,
    io: options.io,
  })
  const space = new Space(cachePath, options.limits)
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
  const readPath = new ReadPath({
    base,
    services,
    fetched: options.fetched,
    directReads: options.directReads,
    logger,
  })
  const contents = new FileContents({ files, readPath, space, durability, now })
  const ranges = new FileRanges({ contents, files, space, durability, now })
  const walIno = base.lookup(ROOT, 'wal')
  const wal = new WalDirectory({ services, owner, mtime: now(), logger })
  const shared = { inodes, durability, wal, walIno, now }
  let changedSync: Promise<void> | undefined

  space.changedBytes = inodes.changedBefore * BLOCK
  space.check()
  for (const { parent, ino } of journalState.entries) {
    if (ino !== 0 && inodes.isDirectory(ino)) names.noteParent(ino, parent)
  }
  for (const orphan of inodes.orphans()) inodes.freeIfUnused(orphan)

  // What was cut or removed is given back by the commit that tells of it; who made room shall not wait for the next one.
  space.onDiskFull = () => {
    if (!durability.unsynced) return
    syncChanged().catch((err: unknown) => logger.error({ err }, 'the write cache could not be synced'))
  }

  function syncChanged(): Promise<void> {
    space.check()
    changedSync ??= durability.syncChanged().finally(() => {
      changedSync = undefined
    })
    return changedSync
  }

  /** Everything that reached this side, also what waits for a missing block. */
  async function flush(): Promise<void> {
    await contents.written()
    await durability.syncAll()
  }

  /**
   * PostgreSQL begins a crash recovery with syncfs(2) or with fsync(2) of everything, and then writes down in this file that
   * it recovers. Of syncfs the kernel tells a FUSE server nothing but the writes that it causes; so whatever was written
   * before a sync of this file becomes durable with it, before redo decides by it which changes it need not repeat.
   */
  function isControlFile(ino: Ino): boolean {
    return (
      ino !== ROOT && ino === CONTROL_FILE.reduce((at, name) => (at === 0 ? 0 : names.lookup(at, name)), ROOT)
    )
  }

  function onFree(inode: Inode): void {
    space.release(inode.map.changed)
    files.removeOpen(inode)
    durability.freed(inode)
    if ((inode.mode & S_IFMT) === S_IFDIR) names.forget(inode.ino)
  }

  const fileOperations = createFileOperations({ ...shared, contents, ranges })
  return {
    ...createDirectoryOperations({ ...shared, base, names }),
    ...fileOperations,

    async fsync(ino) {
      if (isControlFile(ino)) await flush()
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
    referencedFiles: () => inodes.referencedFiles(),

    statistics() {
      return {
        fetchedBytes: readPath.fetchedBytes,
        totalBytes: base.totalBytes,
        fetchedStoreBytes: readPath.heldBytes,
        changedBytes: space.changedBytes,
        lastError: contents.lastError ?? readPath.lastError,
      }
    },

    limit: (quotaBytes) => space.limit(quotaBytes),
    margin: (bytes) => space.setMargin(bytes),

    get unsynced() {
      return durability.unsynced
    },

    syncChanged,

    get unflushed() {
      return readPath.unflushed
    },

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

/** The clock in nanoseconds since the epoch. */
function nanoseconds(clock: () => number): () => bigint {
  let milliseconds = 0
  let now = 0n
  return () => {
    const reading = Math.floor(clock())
    // Most calls of a busy engine fall into the same millisecond as the one before.
    if (reading !== milliseconds) {
      milliseconds = reading
      now = BigInt(reading) * 1_000_000n
    }
    return now
  }
}
