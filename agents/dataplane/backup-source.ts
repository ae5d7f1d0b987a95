/**
 * Owns the contract of the data plane: one opened backup, as the mount process reads it.
 *
 * A read goes from the mount process to `client/`, as a frame of `protocol/` over TLS to `server/`, and from there to
 * the mount agent's own `BackupSource`, which reads the repository; the answer comes back the same way. This folder must
 * not touch a repository format or FUSE, and reads no file of a backup itself.
 */

/** One entry of a backup's file tree. Paths are normalised: relative, `/`-separated, no `.`, `..` or empty parts. */
export interface TreeEntry {
  /** `data/…` below PGDATA, `tblspc/<oid>/…` below a tablespace. `data` and `tblspc/<oid>` themselves are entries. */
  readonly path: string
  readonly kind: 'file' | 'directory' | 'symlink'
  /** Permission bits, e.g. 0o600. */
  readonly mode: number
  /** Seconds since the epoch, with fraction where the format has one. */
  readonly mtime: number
  /** Bytes; 0 for directories and symbolic links. */
  readonly size: number
  /** Where a symbolic link points, exactly as the backup recorded it. */
  readonly linkTarget?: string
  /** What `read` takes; present exactly on files of size > 0. Stable for one backup, also across mount agent restarts. */
  readonly file?: number
}

/** A range of one file of the backup. `file` as in `TreeEntry`; bytes. */
export interface FileRange {
  readonly file: number
  readonly offset: number
  readonly length: number
}

/** `block`: of 8 KiB, in the file. */
export type DamagedBlockListener = (file: number, block: number) => void

/** Bytes of one of several ranges that were requested together. */
export interface RangeData {
  readonly file: number
  readonly offset: number
  readonly data: Buffer
}

/** A WAL file as it is stored: smaller, and for the reader to decode and to verify. */
export interface StoredWal {
  /** Bytes as stored. */
  readonly bytes: number
  readonly compression: 'gz' | 'zst'
  /** SHA-1 of the decoded bytes, lower-case hex; undefined where there is none, or none is to be verified. */
  readonly sha1?: string | undefined
}

/** One backup, opened. Every method may be called concurrently. Failures are `HowdahError`s that name file and backup. */
export interface BackupSource {
  /** All entries, parents before children, in batches of a few hundred; order is the same on every call. */
  tree(): AsyncIterable<readonly TreeEntry[]>

  /**
   * `length` bytes at `offset` of a file; fewer only where the file ends.
   * @throws HowdahError `backup_damaged` | `repository_unavailable` | `timeout`
   */
  read(file: number, offset: number, length: number, signal?: AbortSignal): Promise<Buffer>

  /**
   * Many ranges in one request, streamed back in their order in pieces of at most 1 MiB. A range that cannot be read is
   * left out: reading it alone gives the error. @throws as `read` when the request itself fails
   */
  readMany(ranges: readonly FileRange[], signal?: AbortSignal): AsyncIterable<RangeData>

  /**
   * Reports each block that is served although it is damaged, no later than its bytes, so that a cache does not keep
   * them. Returns what unsubscribes the listener. Absent: page checksums are not verified.
   */
  onDamagedBlock?(listener: DamagedBlockListener): () => void

  /**
   * Size in bytes of a WAL segment or timeline history file after decoding (`000000010000000000000007`,
   * `00000002.history`), or undefined when the archive has none. Answered at once: nothing is decoded for it.
   */
  walSize(name: string): Promise<number | undefined>

  /** `length` bytes at `offset` of a decoded WAL file, the caller's own; fewer only where it ends. @throws as `read`, or `wal_missing` */
  walRead(name: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer>

  /** How a WAL file is stored, where the reader can decode it; otherwise, or where there is no such file, undefined. @throws as `read` */
  walStored(name: string): Promise<StoredWal | undefined>

  /** As `walRead`, of the stored bytes of a file for which `walStored` is defined. */
  walReadStored(name: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer>

  close(): Promise<void>
}
