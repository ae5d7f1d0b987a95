/** The directories of one of Barman's servers. */
export interface ServerDirectories {
  /** The base backups, each in a directory named by its id. */
  readonly backups: string
  readonly wals: string
  /** WAL that was received and not archived yet. */
  readonly received: readonly string[]
  /** Where backup.info is from version 3.13.2 on. */
  readonly meta: string
  /** Names messages and bounds what is read, with the others and what the repository's links may lead to. */
  readonly root: string
}
