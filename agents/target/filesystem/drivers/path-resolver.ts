/**
 * Resolves paths to inodes, for a driver that receives paths. Also handles files that are removed while open: libfuse
 * renames them to a hidden name, which here unlinks them and only this resolver maps to the inode.
 */
import {
  type Attributes,
  type FileSystem,
  FileSystemError,
  type Ino,
  type MaybePromise,
} from '../file-system.ts'

const ROOT: Ino = 1

/** Source: libfuse 2.9, lib/fuse.c, hidden_name. */
const HIDDEN_NAME = /^\.fuse_hidden[0-9a-f]{16}$/

export interface PathResolver {
  /** @throws FileSystemError ENOENT | ENOTDIR | EIO */
  resolve(path: string): MaybePromise<Ino>
  /** The directory of a path, and its last component. */
  parent(path: string): MaybePromise<{ directory: Ino; name: string }>
  isHidden(name: string): boolean
  /** From now on this hidden name refers to an inode that has no other name. */
  hide(directory: Ino, name: string, ino: Ino): void
  /** Removes a hidden name; returns whether it existed. */
  unhide(directory: Ino, name: string): boolean
}

export function createPathResolver(fileSystem: FileSystem): PathResolver {
  const hidden = new Map<string, Ino>()

  function lookup(directory: Ino, name: string): MaybePromise<Ino> {
    const unnamed = hidden.size > 0 ? hidden.get(`${directory}/${name}`) : undefined
    if (unnamed !== undefined) return unnamed
    const found = fileSystem.lookup(directory, name)
    return found instanceof Promise ? found.then(known) : known(found)
  }

  /** libfuse does not pass on the kernel's references. */
  function known({ ino }: Attributes): Ino {
    fileSystem.forget(ino, 1)
    return ino
  }

  function walk(parts: readonly string[]): MaybePromise<Ino> {
    let at = ROOT
    for (const [index, part] of parts.entries()) {
      const next = lookup(at, part)
      if (typeof next !== 'number') {
        // Only lookups below wal/ wait, and its entries are files.
        if (index + 1 < parts.length) throw new FileSystemError('ENOTDIR')
        return next
      }
      at = next
    }
    return at
  }

  const split = (path: string) => path.split('/').filter((part) => part !== '')

  return {
    resolve: (path) => walk(split(path)),
    parent(path) {
      const parts = split(path)
      const name = parts.pop() ?? ''
      const directory = walk(parts)
      if (typeof directory === 'number') return { directory, name }
      return directory.then((ino) => ({ directory: ino, name }))
    },
    isHidden: (name) => HIDDEN_NAME.test(name),
    hide(directory, name, ino) {
      hidden.set(`${directory}/${name}`, ino)
    },
    unhide: (directory, name) => hidden.delete(`${directory}/${name}`),
  }
}
