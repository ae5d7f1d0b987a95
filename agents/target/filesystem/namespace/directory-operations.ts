/**
 * The operations on names, by POSIX's rules: looking up (name-lookups.ts), making and linking (name-creation.ts), removing
 * (name-removal.ts) and renaming (rename.ts). Which inode a name refers to is namespace.ts's concern, what is durable
 * durability.ts's.
 */
import type { FileSystem } from '../file-system.ts'
import { createEntryChanges } from './entry-changes.ts'
import { createNameChecks } from './name-checks.ts'
import type { DirectoryOperationsDependencies, NameContext } from './name-context.ts'
import { nameCreation } from './name-creation.ts'
import { nameLookups } from './name-lookups.ts'
import { nameRemoval } from './name-removal.ts'
import { createRename } from './rename.ts'
import { createTablespaceLinks } from './tablespace-links.ts'

export type DirectoryOperations = ReturnType<typeof nameLookups> &
  ReturnType<typeof nameCreation> &
  ReturnType<typeof nameRemoval> &
  Pick<FileSystem, 'rename'>

export function createDirectoryOperations(
  dependencies: DirectoryOperationsDependencies,
): DirectoryOperations {
  const tablespaceLinks = createTablespaceLinks(dependencies.names)
  const checks = createNameChecks({ ...dependencies, tablespaceLinks })
  const changes = createEntryChanges(dependencies)
  const context: NameContext = { ...dependencies, tablespaceLinks, checks, changes }
  return {
    ...nameLookups(context),
    ...nameCreation(context),
    ...nameRemoval(context),
    rename: createRename(context),
  }
}
