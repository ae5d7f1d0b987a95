/**
 * The published tree in memory: one row per entry in columns, so that a backup of 100,000 files stays small. It never
 * changes after it was built; what changes lies over it, in the namespace and the inodes. Also its form on disk.
 */
import { HowdahError } from '../../../messages/errors.ts'
import type { Ino } from './file-system.ts'
import type { PublishedEntry } from './published-tree.ts'

export const ROOT: Ino = 1

export const S_IFDIR = 0o040000
export const S_IFREG = 0o100000
export const S_IFLNK = 0o120000
export const S_IFMT = 0o170000

const TYPES = { directory: S_IFDIR, file: S_IFREG, symlink: S_IFLNK } as const

const NO_CHILDREN: ReadonlyMap<string, Ino> = new Map()

interface Columns {
  names: string[]
  parents: number[]
  modes: number[]
  mtimes: number[]
  sizes: number[]
  /** What the source reads it by; -1 without content. */
  files: number[]
  /** Of symbolic links, and contents of extra files. */
  links: [Ino, string][]
  contents: [Ino, string][]
}

type Children = Map<Ino, Map<string, Ino>>

/** Inode numbers 1 (the root) to `count`, in the order of the entries. */
export class BaseTree {
  readonly totalBytes: number
  readonly #columns: Columns
  readonly #children: Children
  readonly #directories = new Map<Ino, number>()
  readonly #links: Map<Ino, string>
  readonly #contents: Map<Ino, Buffer>

  constructor(columns: Columns, children = childrenOf(columns)) {
    this.#columns = columns
    this.#children = children
    this.#links = new Map(columns.links)
    this.#contents = new Map(columns.contents.map(([ino, content]) => [ino, Buffer.from(content)]))
    let total = 0
    for (let ino = ROOT + 1; ino <= this.count; ino++) {
      if (((columns.modes[ino] ?? 0) & S_IFMT) === S_IFDIR) {
        const parent = columns.parents[ino] ?? ROOT
        this.#directories.set(parent, (this.#directories.get(parent) ?? 0) + 1)
      }
      total += columns.sizes[ino] ?? 0
    }
    this.totalBytes = total
  }

  get count(): number {
    return this.#columns.names.length - 1
  }

  has(ino: Ino): boolean {
    return ino >= ROOT && ino <= this.count
  }

  /** Type and permissions, as `st_mode`. */
  mode(ino: Ino): number {
    return this.#columns.modes[ino] ?? 0
  }

  mtime(ino: Ino): number {
    return this.#columns.mtimes[ino] ?? 0
  }

  size(ino: Ino): number {
    return this.#columns.sizes[ino] ?? 0
  }

  parent(ino: Ino): Ino {
    return this.#columns.parents[ino] ?? ROOT
  }

  file(ino: Ino): number {
    return this.#columns.files[ino] ?? -1
  }

  link(ino: Ino): string | undefined {
    return this.#links.get(ino)
  }

  /** Of an extra file. */
  content(ino: Ino): Buffer | undefined {
    return this.#contents.get(ino)
  }

  children(ino: Ino): ReadonlyMap<string, Ino> {
    return this.#children.get(ino) ?? NO_CHILDREN
  }

  nlink(ino: Ino): number {
    return (this.mode(ino) & S_IFMT) === S_IFDIR ? 2 + (this.#directories.get(ino) ?? 0) : 1
  }

  /** Path in the backup, for messages. */
  path(ino: Ino): string {
    const parts: string[] = []
    for (let at = ino; at > ROOT; at = this.parent(at)) parts.unshift(this.#columns.names[at] ?? '')
    return parts.join('/')
  }

  serialize(): string {
    return JSON.stringify({ format: 1, ...this.#columns })
  }
}

/**
 * Reads a stream of entries to its end.
 * @throws HowdahError `backup_damaged` when an entry comes twice, or before its directory
 */
export async function buildBaseTree(batches: AsyncIterable<readonly PublishedEntry[]>): Promise<BaseTree> {
  const columns: Columns = {
    names: ['', ''],
    parents: [0, 0],
    modes: [0, S_IFDIR | 0o700],
    mtimes: [0, 0],
    sizes: [0, 0],
    files: [-1, -1],
    links: [],
    contents: [],
  }
  const directories = new Map<string, Ino>([['', ROOT]])
  const children: Children = new Map()
  for await (const batch of batches) {
    for (const entry of batch) {
      const slash = entry.path.lastIndexOf('/')
      const parent = directories.get(slash < 0 ? '' : entry.path.slice(0, slash))
      const name = entry.path.slice(slash + 1)
      const siblings = parent === undefined ? undefined : siblingsIn(children, parent)
      if (parent === undefined || siblings === undefined || siblings.has(name)) {
        throw new HowdahError(
          'backup_damaged',
          `the backup's list of files has ${JSON.stringify(entry.path)} ${parent === undefined ? 'without its directory' : 'twice'}`,
        )
      }
      const sized = entry.kind === 'file' && entry.size > 0
      if (
        sized &&
        entry.content === undefined &&
        (entry.file === undefined || !Number.isSafeInteger(entry.size))
      ) {
        throw new HowdahError('backup_damaged', `the backup's list of files is wrong about ${entry.path}`)
      }
      const ino = columns.names.length
      siblings.set(name, ino)
      columns.names.push(name)
      columns.parents.push(parent)
      columns.modes.push(TYPES[entry.kind] | entry.mode)
      columns.mtimes.push(entry.mtime)
      columns.sizes.push(sized ? entry.size : 0)
      columns.files.push(sized ? (entry.file ?? -1) : -1)
      if (entry.linkTarget !== undefined) columns.links.push([ino, entry.linkTarget])
      if (sized && entry.content !== undefined) columns.contents.push([ino, entry.content])
      if (entry.kind === 'directory') directories.set(entry.path, ino)
    }
  }
  columns.mtimes[ROOT] = columns.mtimes[ROOT + 1] ?? 0
  return new BaseTree(columns, children)
}

function siblingsIn(children: Children, parent: Ino): Map<string, Ino> {
  let siblings = children.get(parent)
  if (siblings === undefined) {
    siblings = new Map()
    children.set(parent, siblings)
  }
  return siblings
}

function childrenOf({ names, parents }: Columns): Children {
  const children: Children = new Map()
  for (let ino = ROOT + 1; ino < names.length; ino++) {
    siblingsIn(children, parents[ino] ?? ROOT).set(names[ino] ?? '', ino)
  }
  return children
}

/** The inverse of `serialize`. @throws HowdahError `mount_failed` when it is not such a text */
export function parseBaseTree(text: string, path: string): BaseTree {
  try {
    const { format, ...columns } = JSON.parse(text) as Columns & { format: number }
    if (format !== 1 || columns.names.length !== columns.files.length) throw new Error('unknown format')
    return new BaseTree(columns)
  } catch (cause) {
    throw new HowdahError('mount_failed', `the saved file list ${path} of the write cache is damaged`, {
      cause,
    })
  }
}
