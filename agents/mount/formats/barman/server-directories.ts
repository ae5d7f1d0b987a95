/** The directories of one Barman server. */
export interface ServerDirectories {
  /** The base backups, each in a directory named by its id. */
  readonly backups: string
  readonly wals: string
  /** WAL that was received and not archived yet. */
  readonly received: readonly string[]
  /** The directory of backup.info from version 3.13.2 on. */
  readonly meta: string
  /** The root in messages, and one of the directories that may be read. */
  readonly root: string
}
