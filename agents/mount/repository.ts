/**
 * The interface of repository formats. A format reader implements `Repository`; the rest of the mount agent
 * (inventory, spool, serving) depends on this file only.
 *
 * Contract for every reader: the repository is opened read-only and never written to; its contents are untrusted (paths
 * may not leave the repository or the backup, sizes are bounded); every damage is a `HowdahError` that names the file
 * and the backup, never zeros and never a hang.
 */

import type { BackupSummary } from '../../messages/values.ts'
import type { BackupSource, TreeEntry } from '../dataplane/backup-source.ts'

export type RepositoryFormat = 'pgbackrest' | 'barman' | 'basebackup'

export interface RepositoryOptions {
  readonly name: string
  readonly format: RepositoryFormat
  /** Absolute path of the repository's root; optional for pgBackRest and Barman with `configFile`. */
  readonly path?: string
  /** File that holds the repository's passphrase, for encrypted repositories. */
  readonly passphraseFile?: string
  /** The tool's own configuration file: pgBackRest's has path and passphrase, Barman's has its directories. */
  readonly configFile?: string
  /** Which of the repositories in `configFile`; 1 where it is not given. */
  readonly repo?: number
  /** False: the backup's checksums of whole files are not verified. */
  readonly verifyChecksums?: boolean
  /** True: the checksum of each data page that is served is verified, where the cluster has them. */
  readonly verifyPages?: boolean
  /** Directories outside of the repository that symbolic links in it may lead to. Absolute. */
  readonly linkTargets?: readonly string[]
  /** basebackup only: a directory of WAL segments to recover with, in addition to those in the backup. */
  readonly walPath?: string
}

export type LocatedRepository = RepositoryOptions & { readonly path: string }

export interface Repository {
  /** Names of the instances (pgBackRest: stanzas; Barman: servers; basebackup: directories), sorted. */
  instances(): Promise<string[]>
  /** @throws HowdahError `unknown_instance`, which names those that exist */
  instance(name: string): Promise<Instance>
}

export interface Instance {
  readonly name: string
  /** Oldest first. A backup that cannot be published (in progress, failed, unsupported) is listed with `unusable`. */
  backups(): Promise<BackupSummary[]>
  /**
   * Opens a backup by its label.
   * @throws HowdahError `unknown_backup`, which names those that exist | `backup_damaged` | `backup_unsupported`
   */
  open(label: string): Promise<OpenBackup>
  /**
   * The WAL that a backup recovers with.
   * @param backup one of `backups`
   * @throws HowdahError `unknown_backup` | `backup_damaged` | `backup_unsupported` | `repository_unavailable`
   */
  wal(backup: BackupSummary): Promise<WalArchive>
  /** Names of the databases in a backup, where the format lists them without opening the backup. */
  databases(label: string): Promise<string[] | undefined>
}

/** Which WAL exists, and its bytes. It is untrusted, and may grow and shrink at any time. */
export interface WalArchive {
  /** Identifies the archive: backups with the same id recover with the same WAL. */
  readonly id: string
  /** @throws HowdahError `repository_unavailable` */
  list(): Promise<WalListing>
  /**
   * All of a segment or history file, decoded; undefined when there is none. Not to be modified.
   * @throws HowdahError `backup_damaged` | `repository_unavailable`
   */
  read(name: string): Promise<Buffer | undefined>
  /** What identifies the stored file, and when it was stored; undefined when there is none. */
  stat(name: string): Promise<{ readonly identity: string; readonly storedAt: number } | undefined>
  /** Whether only the backup itself has it; undefined: backups of the repository contain no WAL. */
  isOwn?(name: string): Promise<boolean>
}

export interface WalListing {
  /** Segments, unordered, partial ones under the name of the full segment. One may be in several groups. */
  readonly groups: readonly WalGroup[]
  /** Timelines that have a history file. */
  readonly histories: readonly number[]
  /** Segments in a form that cannot be decoded, or in a directory that is not searched. */
  readonly unreadable: UnreadableWal
  /** Findings about the archive as a directory: it is empty, or has files whose names are not understood. */
  readonly remarks: readonly string[]
}

export interface UnreadableWal {
  readonly groups: readonly WalGroup[]
  /** Paths of some. */
  readonly examples: readonly string[]
}

/** Segments whose names share the first 16 digits: 8 of the timeline, 8 of the log file number. */
export interface WalGroup {
  readonly timeline: number
  readonly log: number
  /** Of the last 8 digits; in order, with gaps between them. */
  readonly runs: readonly Run[]
}

/** Numbers from `first` to `last`, both included. */
export type Run = readonly [first: number, last: number]

/** A `BackupSource` that reads the repository, with what the target needs to recover the backup. */
export interface OpenBackup extends BackupSource {
  readonly summary: BackupSummary
  /** Sum of the file sizes. */
  readonly totalBytes: number
  readonly fileCount: number
  /** OIDs of the tablespaces, as in `tblspc/<oid>`. */
  readonly tablespaces: readonly string[]
  /** Paths of files in which the backup tool itself found damaged pages. */
  readonly pageErrors: readonly string[]
  /** Of a backup of a stopped server: names of the WAL files in it that the server needs to start. */
  readonly ownWal?: readonly string[]
  /** The entry of a path, as `tree` gives it. */
  entry(path: string): TreeEntry | undefined
}
