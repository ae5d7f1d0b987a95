/** What must hold before names are looked up or changed. Every check throws a FileSystemError; none changes anything. */
import { FileSystemError, type Ino } from '../file-system.ts'
import { type BaseTree, ROOT } from '../tree/base-tree.ts'
import type { WalDirectory } from '../wal/wal-directory.ts'
import { type Inode, isDirectory } from './inode.ts'
import type { Inodes } from './inodes.ts'
import type { Namespace } from './namespace.ts'
import type { TablespaceLinks } from './tablespace-links.ts'

export interface NameChecksDependencies {
  readonly base: BaseTree
  readonly names: Namespace
  readonly inodes: Inodes
  readonly tablespaceLinks: TablespaceLinks
  readonly wal: WalDirectory
  /** The directory `wal/`. */
  readonly walIno: Ino
}

const MAX_NAME_BYTES = 255

export type NameChecks = ReturnType<typeof createNameChecks>

export function createNameChecks(dependencies: NameChecksDependencies) {
  const { base, names, inodes, tablespaceLinks, wal, walIno } = dependencies

  /** The inode of a name. @throws FileSystemError ENOENT | ENOTDIR */
  function find(parent: Ino, name: string): Ino {
    requireDirectory(parent)
    requireName(name)
    const ino = names.lookup(parent, name)
    if (ino === 0) throw new FileSystemError('ENOENT')
    return ino
  }

  function requireDirectory(ino: Ino): void {
    if (!inodes.isDirectory(ino))
      throw new FileSystemError(wal.has(ino) || inodes.mode(ino) ? 'ENOTDIR' : 'ENOENT')
  }

  /** A directory in which entries may change. @throws FileSystemError EROFS | ENOENT | ENOTDIR */
  function writable(parent: Ino): Inode {
    if (parent === walIno || wal.has(parent)) throw new FileSystemError('EROFS')
    requireDirectory(parent)
    const directory = inodes.get(parent)
    if (directory.nlink === 0) throw new FileSystemError('ENOENT')
    return directory
  }

  function requireName(name: string): void {
    // UTF-8 takes at most three bytes per UTF-16 code unit.
    if (name.length * 3 > MAX_NAME_BYTES && Buffer.byteLength(name) > MAX_NAME_BYTES) {
      throw new FileSystemError('ENAMETOOLONG')
    }
  }

  function requireFree(parent: Ino, name: string): void {
    requireName(name)
    if (names.lookup(parent, name) !== 0) throw new FileSystemError('EEXIST')
  }

  /** The directories in the root that publishing made keep their names. @throws FileSystemError EBUSY */
  function requireNotFixed(parent: Ino, ino: Ino): void {
    if (parent === ROOT && base.has(ino)) throw new FileSystemError('EBUSY')
  }

  /** The target a tablespace link gets instead. @throws FileSystemError EPERM: it points out of the mount */
  function requireTablespace(target: string): string {
    const inside = tablespaceLinks.targetOf(target)
    if (inside === undefined) throw new FileSystemError('EPERM')
    return inside
  }

  /** A link renamed or linked into `pg_tblspc` must not point out of the mount. @throws FileSystemError EPERM */
  function requireTargetInside(parent: Ino, { target }: Inode): void {
    if (target !== undefined && tablespaceLinks.appliesTo(parent)) requireTablespace(target)
  }

  /** Checks that a rename may put `moved` in the place of `replaced`. */
  function requireReplaceable(moved: Inode, replaced: Inode): void {
    if (isDirectory(moved) && !isDirectory(replaced)) throw new FileSystemError('ENOTDIR')
    if (!isDirectory(moved) && isDirectory(replaced)) throw new FileSystemError('EISDIR')
    if (isDirectory(replaced) && !names.isEmpty(replaced.ino)) throw new FileSystemError('ENOTEMPTY')
  }

  return {
    find,
    requireDirectory,
    writable,
    requireName,
    requireFree,
    requireNotFixed,
    requireTablespace,
    requireTargetInside,
    requireReplaceable,
  }
}
