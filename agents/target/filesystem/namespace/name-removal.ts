/** The operations that remove names. An inode without one lives on while the kernel refers to it. */
import { type FileSystem, FileSystemError } from '../file-system.ts'
import type { NameContext } from './name-context.ts'

export function nameRemoval({
  names,
  inodes,
  checks,
  changes,
}: NameContext): Pick<FileSystem, 'unlink' | 'rmdir'> {
  const { find, requireDirectory, requireNotFixed, writable } = checks
  const { countSubdirectory, dropName, removeEntry } = changes
  return {
    unlink(parent, name) {
      const directory = writable(parent)
      const ino = find(parent, name)
      if (inodes.isDirectory(ino)) throw new FileSystemError('EISDIR')
      const inode = inodes.get(ino)
      removeEntry(directory, name)
      dropName(inode)
    },

    rmdir(parent, name) {
      const directory = writable(parent)
      const ino = find(parent, name)
      requireNotFixed(parent, ino)
      requireDirectory(ino)
      if (!names.isEmpty(ino)) throw new FileSystemError('ENOTEMPTY')
      const inode = inodes.get(ino)
      removeEntry(directory, name)
      countSubdirectory(directory, -1)
      dropName(inode)
    },
  }
}
