/** Changes of directory entries, with what goes along with each: link counts, times, and what is to become durable. */
import type { Durability } from '../durability/durability.ts'
import { type Inode, isDirectory } from './inode.ts'
import type { Inodes } from './inodes.ts'
import type { Namespace } from './namespace.ts'

export interface EntryChangesDependencies {
  readonly names: Namespace
  readonly inodes: Inodes
  readonly durability: Durability
  /** Nanoseconds since the epoch. */
  readonly now: () => bigint
}

export type EntryChanges = ReturnType<typeof createEntryChanges>

export function createEntryChanges({ names, inodes, durability, now }: EntryChangesDependencies) {
  function touchDirectory(directory: Inode): void {
    directory.mtime = directory.ctime = now()
    durability.attributesChanged(directory)
  }

  function addEntry(directory: Inode, name: string, inode: Inode): void {
    names.set(directory.ino, name, inode.ino, isDirectory(inode))
    durability.entryChanged(directory.ino, name)
    touchDirectory(directory)
  }

  function removeEntry(directory: Inode, name: string): void {
    names.delete(directory.ino, name)
    durability.entryChanged(directory.ino, name)
    touchDirectory(directory)
  }

  /** One of an inode's names was removed. */
  function dropName(inode: Inode): void {
    inode.nlink = isDirectory(inode) ? 0 : inode.nlink - 1
    inode.ctime = now()
    durability.attributesChanged(inode, true)
    inodes.freeIfUnused(inode)
  }

  function countSubdirectory(directory: Inode, by: number): void {
    directory.nlink += by
    durability.attributesChanged(directory, true)
  }

  /** Gives an inode, whose entry in `from` was removed or replaced, a name in a directory. */
  function moveInto(directory: Inode, name: string, moved: Inode, from: Inode): void {
    addEntry(directory, name, moved)
    moved.ctime = now()
    durability.attributesChanged(moved)
    if (isDirectory(moved) && directory !== from) {
      countSubdirectory(from, -1)
      countSubdirectory(directory, 1)
    }
  }

  return { addEntry, removeEntry, dropName, countSubdirectory, moveInto }
}
