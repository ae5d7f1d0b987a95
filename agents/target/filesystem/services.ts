/**
 * What the engine waits for: the repository, the disk and the journal. The engine itself never blocks and holds no
 * timer, so it can live in a thread that sleeps in the FUSE device; the services are then another thread's, and their
 * answers come as messages.
 */
import type { FileRange, RangeData } from '../../dataplane/backup-source.ts'
import type { Batch } from './durability/journal.ts'
import type { FetchedChunk } from './fetched/fetched-chunks.ts'
import type { FetchedExtent } from './fetched/fetched-index.ts'

export interface Services {
  /** A range of a file of the backup, all of it. @throws HowdahError when it cannot be had before the deadline */
  read(file: number, offset: number, length: number): Promise<Buffer>
  /**
   * Many ranges in one request, given to `onPiece` in their order as they arrive; resolves after the last. What cannot
   * be read is left out. @throws as `read` when the request itself fails
   */
  readMany(ranges: readonly FileRange[], onPiece: (piece: RangeData) => void): Promise<void>
  /** Bytes of a decoded WAL file, which lies ready then where it can; undefined: the archive does not have it. @throws as `read` */
  walSize(name: string): Promise<number | undefined>
  /** @throws as `read` */
  walRead(name: string, offset: number, length: number): Promise<Buffer>
  /** Resolves when what was written to an open file (by its descriptor in this process) is on disk: fdatasync(2). */
  sync(fd: number): Promise<void>
  /** Writes all of `data` at a position of an open file; `data` must stay as it is meanwhile. @throws the system's error */
  write(fd: number, data: Buffer, position: number): Promise<void>
  /** As `sync`, of a directory with its names: fsync(2); fdatasync(2) may leave new names out (ext4). */
  syncDirectory(fd: number): Promise<void>
  /** Closes a descriptor of a large file without a name, whose room is free then; that may take a while. */
  close(fd: number): Promise<void>
  /** Resolves when a batch is durable in the journal; rejects when none of it is. Batches are committed in order. */
  commit(batch: Batch): Promise<void>
  /** As `FetchedIndex.reserve`. */
  reserveFetched(unused: number): Promise<FetchedExtent | undefined>
  /** As `FetchedIndex.save`. */
  saveFetched(chunks: readonly FetchedChunk[]): Promise<readonly FetchedChunk[]>
  /** As `FetchedIndex.drop`. */
  dropFetched(file: number, slots?: readonly number[]): Promise<void>
}
