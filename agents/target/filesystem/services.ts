/**
 * Everything the engine may have to wait for: the repository, the disk and the journal. The engine itself never blocks
 * and holds no timer, so it can run in a thread that sleeps in the FUSE device; another thread then provides the
 * services, and their results arrive as messages.
 */
import type { FileRange, RangeData } from '../../dataplane/backup-source.ts'
import type { Batch } from './durability/journal.ts'
import type { FetchedChunk } from './fetched/fetched-chunks.ts'
import type { FetchedExtent } from './fetched/fetched-index.ts'

export interface Services {
  /** The whole of a range of a file of the backup. @throws HowdahError when it cannot be read before the deadline */
  read(file: number, offset: number, length: number): Promise<Buffer>
  /**
   * Many ranges in one request, passed to `onPiece` in order as they arrive; resolves after the last. Ranges that cannot
   * be read are omitted. @throws as `read` when the request itself fails
   */
  readMany(ranges: readonly FileRange[], onPiece: (piece: RangeData) => void): Promise<void>
  /** Size in bytes of a decoded WAL file, which is made ready locally where possible; undefined: not in the archive. @throws as `read` */
  walSize(name: string): Promise<number | undefined>
  /** @throws as `read` */
  walRead(name: string, offset: number, length: number): Promise<Buffer>
  /** Resolves when everything written to an open file (a descriptor of this process) is on disk: fdatasync(2). */
  sync(fd: number): Promise<void>
  /** Writes all of `data` at a position of an open file; `data` must not change until it resolves. @throws the system's error */
  write(fd: number, data: Buffer, position: number): Promise<void>
  /** As `sync`, for a directory and its entries: fsync(2); fdatasync(2) may omit new entries (ext4). */
  syncDirectory(fd: number): Promise<void>
  /** Syncs the file system of the write cache as a whole, after which it counts what was allocated: syncfs(2). */
  syncFileSystem(): Promise<void>
  /** Closes the descriptor of a large unlinked file, which frees its space and may take a while. */
  close(fd: number): Promise<void>
  /** Resolves when a batch is durable in the journal, rejects when none of it is. Batches are committed in order. */
  commit(batch: Batch): Promise<void>
  /** As `FetchedIndex.reserve`. */
  reserveFetched(unused: number): Promise<FetchedExtent | undefined>
  /** As `FetchedIndex.save`. */
  saveFetched(chunks: readonly FetchedChunk[]): Promise<readonly FetchedChunk[]>
  /** As `FetchedIndex.drop`. */
  dropFetched(file: number, slots?: readonly number[]): Promise<void>
}
