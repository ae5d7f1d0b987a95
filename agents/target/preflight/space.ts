/** Estimates the size of a write cache, and reads the free space of a file system. */
import { statfs } from 'node:fs/promises'

/** For pg_wal after the promotion, bytes. */
const WAL_ALLOWANCE = 64 * 1024 ** 2
/** For metadata of the mounted tree, bytes per file. */
const PER_FILE = 1024
/** Share of the backup that recovery changes and first use reads: 1 %. */
const TOUCHED = 0.01

export interface BackupSize {
  readonly totalBytes: number
  readonly fileCount: number
  /** WAL to replay. */
  readonly walBytes: number
}

/**
 * The estimated size of the write cache when the instance becomes usable, bytes: 64 MiB of WAL, the blocks that replay
 * changes, 1 KiB of metadata per file and 1 % of the backup, at least `minimum`. What users change and read later is
 * additional and cannot be estimated.
 */
export function estimateCacheBytes({ totalBytes, fileCount, walBytes }: BackupSize, minimum: number): number {
  const estimated = WAL_ALLOWANCE + walBytes + fileCount * PER_FILE + totalBytes * TOUCHED
  return Math.max(minimum, Math.ceil(estimated))
}

/** Bytes of the backup's files that a first publish reads before its first query, without WAL: slightly over 2 MiB. */
export function estimateFirstTouch(totalBytes: number): number {
  return Math.min(totalBytes, 2.5 * 1024 ** 2)
}

/** Bytes available on the file system of `path`. */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path)
  return bavail * bsize
}
