/** What the operations on names share. */
import type { Durability } from '../durability/durability.ts'
import type { Ino } from '../file-system.ts'
import type { BaseTree } from '../tree/base-tree.ts'
import type { WalDirectory } from '../wal/wal-directory.ts'
import type { EntryChanges } from './entry-changes.ts'
import type { Inodes } from './inodes.ts'
import type { NameChecks } from './name-checks.ts'
import type { Namespace } from './namespace.ts'
import type { TablespaceLinks } from './tablespace-links.ts'

export interface DirectoryOperationsDependencies {
  readonly base: BaseTree
  readonly names: Namespace
  readonly inodes: Inodes
  readonly durability: Durability
  readonly wal: WalDirectory
  /** The directory `wal/`. */
  readonly walIno: Ino
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint
}

export interface NameContext extends DirectoryOperationsDependencies {
  readonly tablespaceLinks: TablespaceLinks
  readonly checks: NameChecks
  readonly changes: EntryChanges
}
