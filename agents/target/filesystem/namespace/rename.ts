/** renameat2(2), by POSIX's rules: what may be moved where, and what becomes of the file that is replaced. */
import type { Durability } from '../durability/durability.ts'
import { FileSystemError, type Ino, type RenameMode } from '../file-system.ts'
import type { EntryChanges } from './entry-changes.ts'
import { isDirectory } from './inode.ts'
import type { Inodes } from './inodes.ts'
import type { NameChecks } from './name-checks.ts'
import type { Namespace } from './namespace.ts'

export interface RenameDependencies {
  readonly names: Namespace
  readonly inodes: Inodes
  readonly durability: Durability
  readonly checks: NameChecks
  readonly changes: EntryChanges
}

type Rename = (parent: Ino, name: string, newParent: Ino, newName: string, mode: RenameMode) => void

/** As `FileSystem.rename`. */
export function createRename({ names, inodes, durability, checks, changes }: RenameDependencies): Rename {
  const { find, writable, requireName, requireNotFixed, requireTargetInside, requireReplaceable } = checks
  const { removeEntry, dropName, countSubdirectory, moveInto } = changes

  return (parent, name, newParent, newName, mode) => {
    const from = writable(parent)
    const to = writable(newParent)
    const moved = inodes.get(find(parent, name))
    requireNotFixed(parent, moved.ino)
    if (isDirectory(moved) && names.isWithin(newParent, moved.ino)) throw new FileSystemError('EINVAL')
    requireName(newName)
    const replacedIno = names.lookup(newParent, newName)
    if (replacedIno === 0 && mode === 'exchange') throw new FileSystemError('ENOENT')
    if (replacedIno !== 0 && mode === 'noreplace') throw new FileSystemError('EEXIST')
    // POSIX: renaming one name of a file over another does nothing.
    if (replacedIno === moved.ino) return
    requireTargetInside(newParent, moved)
    const replaced = replacedIno === 0 ? undefined : inodes.get(replacedIno)
    if (replaced !== undefined) requireNotFixed(newParent, replacedIno)
    if (replaced !== undefined && mode === 'exchange') {
      requireTargetInside(parent, replaced)
      if (isDirectory(replaced) && names.isWithin(parent, replacedIno)) throw new FileSystemError('EINVAL')
      moveInto(to, newName, moved, from)
      moveInto(from, name, replaced, to)
      return
    }
    if (replaced !== undefined) requireReplaceable(moved, replaced)
    removeEntry(from, name)
    moveInto(to, newName, moved, from)
    if (replaced === undefined) return
    if (isDirectory(replaced)) countSubdirectory(to, -1)
    dropName(replaced)
    durability.syncSoon(moved)
  }
}
