/** Estimates what a write cache needs and compares it with what is free. */
import { statfs } from 'node:fs/promises'

/** What PostgreSQL keeps in pg_wal once it is promoted. */
const WAL_ALLOWANCE = 64 * 1024 ** 2
/** Metadata of the mounted tree, per file. */
const PER_FILE = 1024
/** Part of the backup that recovery changes and first use reads: 1 %. */
const TOUCHED = 0.01

export interface BackupSize {
  readonly totalBytes: number
  readonly fileCount: number
  /** To replay. */
  readonly walBytes: number
}

/**
 * Bytes that the write cache is reckoned to take until the instance is usable: 64 MiB of WAL, the blocks that replay
 * changes, 1 KiB of metadata per file and 1 % of the backup, at least `minimum`. What users change and read later comes
 * on top and has no bound that could be known.
 */
export function estimateCacheBytes({ totalBytes, fileCount, walBytes }: BackupSize, minimum: number): number {
  const reckoned = WAL_ALLOWANCE + walBytes + fileCount * PER_FILE + totalBytes * TOUCHED
  return Math.max(minimum, Math.ceil(reckoned))
}

/** Bytes of the backup's files that a first publish reads until its first query, WAL apart: a start takes 2 MiB and a little. */
export function estimateFirstTouch(totalBytes: number): number {
  return Math.min(totalBytes, 2.5 * 1024 ** 2)
}

/** Bytes that may be written to the file system of `path`. */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path)
  return bavail * bsize
}
