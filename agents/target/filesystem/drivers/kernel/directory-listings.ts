/**
 * Open directories. Each keeps the entries it had when it was read from the start, so that positions stay valid while
 * entries are added and removed: a program that removes what it lists misses nothing.
 */
import {
  type Attributes,
  type DirectoryEntry,
  type FileSystem,
  FileSystemError,
  type Ino,
  type MaybePromise,
} from '../../file-system.ts'
import { ENTRY_BYTES, IN, MAX_TRANSFER } from './protocol.ts'
import type { Reply } from './reply.ts'
import type { Request } from './request.ts'

interface OpenDirectory {
  readonly node: Ino
  entries: readonly DirectoryEntry[] | undefined
}

/** `fuse_read_in`: fh, offset, size. */
const HANDLE = IN.SIZE_WORDS
const OFFSET = IN.SIZE_WORDS + 2
const SIZE = IN.SIZE_WORDS + 4
/** `fuse_open_out` */
const OPEN_OUT_BYTES = 16
const S_IFDIR = 0o040000
/** Shift from `S_IFMT` bits to the type of a directory entry. Source: stat(2) and readdir(3), IFTODT. */
const TYPE_SHIFT = 12

export interface DirectoryListings {
  open(node: Ino, reply: Reply): number
  /** READDIR, or with `plus` READDIRPLUS: each entry with attributes then takes a reference. */
  read(request: Request, reply: Reply, plus: boolean): MaybePromise<number>
  close(request: Request): number
}

export function createDirectoryListings(fileSystem: FileSystem): DirectoryListings {
  const directories = new Map<number, OpenDirectory>()
  let last = 0

  function fill(
    { node, entries = [] }: OpenDirectory,
    reply: Reply,
    from: number,
    end: number,
    plus: boolean,
  ): number {
    const before = plus ? ENTRY_BYTES : 0
    let at = 0
    for (let index = from; index < entries.length; index++) {
      const entry = entries[index] as DirectoryEntry
      if (at + before + 24 > end) break
      const next = reply.dirent(at + before, end, entry.ino, index + 1, entry.type >> TYPE_SHIFT, entry.name)
      if (next < 0) break
      if (plus) {
        const attributes = isDots(entry.name) ? undefined : known(node, entry.name)
        if (attributes === undefined) reply.noEntry(0, at)
        else reply.entry(attributes, at)
      }
      at = next
    }
    return at
  }

  /** A name's attributes with a reference, if available synchronously; otherwise the kernel sends a LOOKUP when needed. */
  function known(parent: Ino, name: string): Attributes | undefined {
    try {
      const found = fileSystem.lookup(parent, name)
      if (!(found instanceof Promise)) return found
      found.then(({ ino }) => fileSystem.forget(ino, 1)).catch(() => undefined)
    } catch (error) {
      if (!(error instanceof FileSystemError)) throw error
    }
    return undefined
  }

  function withDots(node: Ino, entries: readonly DirectoryEntry[]): readonly DirectoryEntry[] {
    return [
      { name: '.', ino: node, type: S_IFDIR },
      { name: '..', ino: fileSystem.parent(node), type: S_IFDIR },
      ...entries,
    ]
  }

  return {
    open(node, reply) {
      last += 1
      directories.set(last, { node, entries: undefined })
      reply.zero(OPEN_OUT_BYTES)
      reply.long(0, last)
      return OPEN_OUT_BYTES
    },

    read(request, reply, plus) {
      request.need(10)
      const directory = directories.get(request.long(HANDLE))
      if (directory === undefined) throw new FileSystemError('EBADF')
      const from = request.long(OFFSET)
      const end = Math.min(request.word(SIZE), MAX_TRANSFER)
      if (from > 0 && directory.entries !== undefined) return fill(directory, reply, from, end, plus)
      const listed = fileSystem.readdir(directory.node)
      const take = (entries: readonly DirectoryEntry[]) => {
        directory.entries = withDots(directory.node, entries)
        return fill(directory, reply, from, end, plus)
      }
      return listed instanceof Promise ? listed.then(take) : take(listed)
    },

    close(request) {
      request.need(2)
      directories.delete(request.long(HANDLE))
      return 0
    },
  }
}

function isDots(name: string): boolean {
  return name === '.' || name === '..'
}
