/**
 * The mounted file system, put together: the base tree, the write cache over it, and the operations on both. How
 * requests arrive is a driver's.
 */
import type { Logger } from 'pino'
import { type BaseTree, ROOT, S_IFDIR, S_IFMT } from './base-tree.ts'
import { BLOCK } from './block-map.ts'
import { DataFiles } from './data-files.ts'
import { createDirectoryOperations } from './directory-operations.ts'
import { DEFAULT_INTERVALS, Durability, type DurabilityIntervals } from './durability.ts'
import { FileContents } from './file-contents.ts'
import { createFileOperations } from './file-operations.ts'
import type { FileSystem } from './file-system.ts'
import type { Inode } from './inode.ts'
import { Inodes } from './inodes.ts'
import { openJournal } from './journal.ts'
import { Namespace } from './namespace.ts'
import { type BlockSource, ReadPath } from './read-path.ts'
import { Space, type SpaceLimits } from './space.ts'
import { WalDirectory, type WalSource } from './wal-directory.ts'

export interface EngineOptions {
  readonly tree: BaseTree
  /** The write cache: a directory that only this engine uses; made when missing. */
  readonly cachePath: string
  readonly source: BlockSource
  /** None: `wal/` is empty. */
  readonly wal?: WalSource
  /** To whom everything belongs. */
  readonly owner: { readonly uid: number; readonly gid: number }
  readonly limits: SpaceLimits
  readonly logger: Logger
  /** Milliseconds since the epoch. */
  readonly clock?: () => number
  /** Milliseconds that a read may wait for the repository before it fails with EIO. */
  readonly deadlineMs?: number
  readonly intervals?: DurabilityIntervals
}

export interface EngineStatistics {
  /** Bytes that came from the repository, over all runs, as far as they were kept. */
  readonly fetchedBytes: number
  /** Bytes of the backup. */
  readonly totalBytes: number
  /** Bytes held locally. */
  readonly cacheBytes: number
  readonly changedBytes: number
  /** Reads of the repository in this run. */
  readonly sourceReads: number
  /** The last failure to read the repository. */
  readonly lastError: string | undefined
}

export interface Engine extends FileSystem {
  statistics(): EngineStatistics
  /** Makes everything durable. */
  flush(): Promise<void>
  /** Makes everything durable and closes the write cache. */
  close(): Promise<void>
  /** Closes the write cache as it is, as a crash would leave it. */
  abandon(): void
}

const MAX_OPEN_LOCAL_FILES = 1000

/** Opens a write cache over a published tree, with everything that was durable in it. */
export function createEngine(options: EngineOptions): Engine {
  const { tree: base, owner, logger, cachePath } = options
  const clock = options.clock ?? Date.now
  const deadlineMs = options.deadlineMs ?? 120_000
  const now = () => clock() / 1000

  const files = new DataFiles(`${cachePath}/files`, MAX_OPEN_LOCAL_FILES)
  const journal = openJournal(`${cachePath}/journal.sqlite`)
  const space = new Space(cachePath, options.limits)
  const names = new Namespace(base, journal.entries())
  const durability = new Durability({
    base,
    files,
    journal,
    logger,
    entry: (parent, name) => names.lookup(parent, name),
    intervals: options.intervals ?? DEFAULT_INTERVALS,
  })
  const inodes = new Inodes({ base, journal, files, owner, onFree })
  const readPath = new ReadPath({
    base,
    source: options.source,
    files,
    space,
    logger,
    deadlineMs,
    onKept: (inode) => durability.contentsChanged(inode),
  })
  const contents = new FileContents({ files, readPath, space, durability, now })
  const walIno = base.children(ROOT).get('wal') ?? 0
  const wal = new WalDirectory({ source: options.wal, owner, mtime: now(), logger, deadlineMs })
  const shared = { inodes, durability, wal, walIno, now }
  const directories = createDirectoryOperations({ ...shared, base, names })
  const operations = createFileOperations({ ...shared, directories, contents })

  space.changedBytes = inodes.changedBefore * BLOCK
  for (const { parent, ino } of journal.entries()) {
    if (ino !== 0 && inodes.isDirectory(ino)) names.noteParent(ino, parent)
  }
  for (const orphan of inodes.orphans()) inodes.freeIfUnused(orphan)

  function onFree(inode: Inode): void {
    space.give(inode.map.changed)
    files.release(inode)
    durability.freed(inode)
    if ((inode.mode & S_IFMT) === S_IFDIR) names.forget(inode.ino)
  }

  return {
    ...directories,
    ...operations,

    fsyncdir: () => durability.syncNames(),

    forget(ino, count) {
      if (!wal.has(ino)) inodes.forget(ino, count)
    },

    statfs: () => space.statistics(),

    statistics() {
      return {
        fetchedBytes: inodes.fetchedBefore * BLOCK + readPath.fetchedBytes,
        totalBytes: base.totalBytes,
        cacheBytes: inodes.fetchedBefore * BLOCK + readPath.fetchedBytes + space.changedBytes,
        changedBytes: space.changedBytes,
        sourceReads: readPath.reads,
        lastError: readPath.lastError,
      }
    },

    flush: () => durability.syncAll(),

    async close() {
      await durability.stop()
      await durability.syncAll()
      journal.close()
      files.close()
    },

    abandon() {
      durability.stop().catch(() => undefined)
      journal.close()
      files.close()
    },
  }
}
