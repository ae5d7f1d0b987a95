/** The operations that look names up and change nothing. */
import { type FileSystem, FileSystemError } from '../file-system.ts'
import { ROOT, S_IFMT, S_IFREG } from '../tree/base-tree.ts'
import type { NameContext } from './name-context.ts'

export function nameLookups({
  names,
  inodes,
  wal,
  walIno,
  checks,
}: NameContext): Pick<FileSystem, 'lookup' | 'readlink' | 'readdir' | 'parent'> {
  // Taken apart here, so that a request calls the functions directly.
  const { find, requireDirectory } = checks
  return {
    lookup(parent, name) {
      if (parent === walIno) return wal.lookup(name)
      const attributes = inodes.attributes(find(parent, name))
      inodes.remember(attributes.ino)
      return attributes
    },

    readlink(ino) {
      const inode = wal.has(ino) ? undefined : inodes.get(ino)
      if (inode?.target === undefined) throw new FileSystemError('EINVAL')
      return inode.target
    },

    readdir(ino) {
      requireDirectory(ino)
      if (ino === walIno) return wal.list().map(({ name, ino: file }) => ({ name, ino: file, type: S_IFREG }))
      return Array.from(names.entries(ino), ([name, child]) => ({
        name,
        ino: child,
        type: inodes.mode(child) & S_IFMT,
      }))
    },

    parent(ino) {
      requireDirectory(ino)
      return ino === ROOT ? ROOT : names.parent(ino)
    },
  }
}
