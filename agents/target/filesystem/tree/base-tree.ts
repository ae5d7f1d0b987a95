/**
 * The published tree in memory: one row per entry in columns, so that a backup of 100,000 files takes a few megabytes
 * and can be transferred to another thread without a copy. It is immutable; changes are overlaid by the namespace and
 * the inodes. Strings are created only on demand.
 */
import { createHash, randomInt } from 'node:crypto'
import { HowdahError } from '../../../../messages/errors.ts'
import type { Ino } from '../file-system.ts'
import type { PublishedEntry } from './published-tree.ts'
import {
  buffersOf,
  DuplicateName,
  findRow,
  indexRows,
  type RowColumns,
  type TreeColumns,
} from './tree-columns.ts'
import { packRows, unpackRows } from './tree-file.ts'
import { TreeRows } from './tree-rows.ts'

export type { TreeColumns } from './tree-columns.ts'

export const ROOT: Ino = 1

export const S_IFDIR = 0o040000
export const S_IFREG = 0o100000
export const S_IFLNK = 0o120000
export const S_IFMT = 0o170000

const TYPES = { directory: S_IFDIR, file: S_IFREG, symlink: S_IFLNK } as const

/** Seconds since the epoch (the year 2242), safely within a signed 64-bit number of nanoseconds. */
const MAX_MTIME = 2 ** 33

/** Bytes hashed at a time for the fingerprint; more than the longest path and its numbers. */
const FINGERPRINT_BYTES = 64 * 1024
const FINGERPRINT_NUMBERS = 24

/** Inode numbers 1 (the root) to `count`, in the order of the entries. */
export class BaseTree {
  /** Sum of the files' sizes. */
  readonly totalBytes: number
  readonly count: number
  readonly #columns: TreeColumns

  private constructor(columns: TreeColumns) {
    this.#columns = columns
    this.count = columns.parents.length - 1
    let total = 0
    for (const size of columns.sizes) total += size
    this.totalBytes = total
  }

  /** A tree from the columns that `transfer` returned. */
  static of(columns: TreeColumns): BaseTree {
    return new BaseTree(columns)
  }

  /** The columns, and their buffers for the transfer list of `postMessage`; the tree is unusable afterwards. */
  transfer(): { readonly columns: TreeColumns; readonly transfer: ArrayBuffer[] } {
    return { columns: this.#columns, transfer: buffersOf(this.#columns) }
  }

  has(ino: Ino): boolean {
    return ino >= ROOT && ino <= this.count
  }

  /** Type and permissions, as `st_mode`. */
  mode(ino: Ino): number {
    return this.#columns.modes[ino] ?? 0
  }

  /** Nanoseconds since the epoch. */
  mtime(ino: Ino): bigint {
    const mtime = this.#columns.mtimes[ino] ?? 0
    const seconds = Math.floor(mtime)
    // Separately: the product has more digits than a number can hold.
    return BigInt(seconds) * 1_000_000_000n + BigInt(Math.round((mtime - seconds) * 1e9))
  }

  size(ino: Ino): number {
    return this.#columns.sizes[ino] ?? 0
  }

  parent(ino: Ino): Ino {
    return this.#columns.parents[ino] || ROOT
  }

  /** The source's number of the file; -1 without content in the backup. */
  file(ino: Ino): number {
    return this.#columns.files[ino] ?? -1
  }

  name(ino: Ino): string {
    const { nameStarts, names } = this.#columns
    return text(names, nameStarts[ino], nameStarts[ino + 1])
  }

  link(ino: Ino): string | undefined {
    return (this.mode(ino) & S_IFMT) === S_IFLNK ? this.#text(ino)?.toString() : undefined
  }

  /** Content of an extra file. */
  content(ino: Ino): Buffer | undefined {
    return (this.mode(ino) & S_IFMT) === S_IFREG && this.file(ino) < 0 ? this.#text(ino) : undefined
  }

  /** The inode of a name in a directory; 0 when there is none. */
  lookup(directory: Ino, name: string): Ino {
    return findRow(this.#columns, directory, name)
  }

  /** Names and inodes of a directory, in the order of the backup. */
  *entries(directory: Ino): IterableIterator<[string, Ino]> {
    const { firstChildren, nextSiblings } = this.#columns
    for (let ino = firstChildren[directory] ?? 0; ino !== 0; ino = nextSiblings[ino] ?? 0) {
      yield [this.name(ino), ino]
    }
  }

  nlink(ino: Ino): number {
    return (this.mode(ino) & S_IFMT) === S_IFDIR ? 2 + (this.#columns.subdirectories[ino] ?? 0) : 1
  }

  /** Path in the backup, for messages. */
  path(ino: Ino): string {
    const parts: string[] = []
    for (let at = ino; at > ROOT; at = this.parent(at)) parts.unshift(this.name(at))
    return parts.join('/')
  }

  /**
   * SHA-256, in hex, of path, size, time and file number of everything with content in the backup. The same for every
   * session of a backup: entries that publishing adds are not included.
   */
  fingerprint(): string {
    const { parents, mtimes, sizes, files, nameStarts, names } = this.#columns
    const hash = createHash('sha256')
    const piece = Buffer.alloc(FINGERPRINT_BYTES)
    let end = 0
    let directory = -1
    let prefix: Buffer = Buffer.alloc(0)
    for (let ino = ROOT + 1; ino <= this.count; ino++) {
      const file = files[ino] ?? -1
      if (file < 0) continue
      const parent = parents[ino] ?? 0
      if (parent !== directory) {
        directory = parent
        prefix = Buffer.from(`${this.path(parent)}/`)
      }
      const start = nameStarts[ino] ?? 0
      const nameEnd = nameStarts[ino + 1] ?? 0
      if (end + prefix.length + nameEnd - start + FINGERPRINT_NUMBERS + 1 > piece.length) {
        hash.update(piece.subarray(0, end))
        end = 0
      }
      piece.set(prefix, end)
      end += prefix.length
      piece.set(names.subarray(start, nameEnd), end)
      end += nameEnd - start
      // No path contains a NUL, so it separates the path from the numbers.
      piece[end++] = 0
      end = piece.writeDoubleLE(sizes[ino] ?? 0, end)
      end = piece.writeDoubleLE(mtimes[ino] ?? 0, end)
      end = piece.writeDoubleLE(file, end)
    }
    return hash.update(piece.subarray(0, end)).digest('hex')
  }

  /** The format that `parseBaseTree` reads. */
  serialize(): Uint8Array {
    return packRows(this.#columns)
  }

  #text(ino: Ino): Buffer | undefined {
    const { textInos, textStarts, texts } = this.#columns
    let low = 0
    let high = textInos.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((textInos[middle] ?? 0) < ino) low = middle + 1
      else high = middle
    }
    if (textInos[low] !== ino) return undefined
    const start = textStarts[low] ?? 0
    return Buffer.from(texts.buffer, texts.byteOffset + start, (textStarts[low + 1] ?? 0) - start)
  }
}

function text(bytes: Uint8Array<ArrayBuffer>, start = 0, end = 0): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString()
}

/**
 * Reads a stream of entries to its end.
 * @throws HowdahError `backup_damaged` when an entry appears twice, or before its directory
 */
export async function buildBaseTree(batches: AsyncIterable<readonly PublishedEntry[]>): Promise<BaseTree> {
  const rows = new TreeRows()
  rows.add({
    parent: 0,
    mode: S_IFDIR | 0o700,
    mtime: 0,
    size: 0,
    file: -1,
    path: '',
    nameAt: 0,
    text: undefined,
  })
  const directories = new Map<string, Ino>([['', ROOT]])
  // Most entries are in the same directory as the previous one.
  let directory = ''
  let parent: Ino | undefined = ROOT

  // A separate function: code in a loop with `await` is optimized less well.
  function add(batch: readonly PublishedEntry[]): void {
    for (const entry of batch) {
      const { path, kind, content } = entry
      const slash = path.lastIndexOf('/')
      if (Math.max(0, slash) !== directory.length || !path.startsWith(directory)) {
        directory = slash < 0 ? '' : path.slice(0, slash)
        parent = directories.get(directory)
      }
      if (parent === undefined) throw wrongEntry(path, 'without its directory')
      const sized = kind === 'file' && entry.size > 0
      if (sized && content === undefined && (entry.file === undefined || !Number.isSafeInteger(entry.size))) {
        throw new HowdahError('backup_damaged', `the backup's list of files is inconsistent at ${path}`)
      }
      const ino = rows.add({
        parent,
        mode: TYPES[kind] | entry.mode,
        mtime: Math.min(Math.max(entry.mtime, 0), MAX_MTIME),
        size: sized ? entry.size : 0,
        file: sized ? (entry.file ?? -1) : -1,
        path,
        nameAt: slash + 1,
        text: sized && content !== undefined ? content : entry.linkTarget,
      })
      if (kind === 'directory') directories.set(path, ino)
    }
  }

  for await (const batch of batches) add(batch)
  rows.setMtime(ROOT, rows.mtime(ROOT + 1))
  return indexed(rows.finish())
}

/** The inverse of `serialize`. @throws HowdahError `mount_failed` when the file is damaged or of another format */
export function parseBaseTree(bytes: Uint8Array, path: string): BaseTree {
  try {
    return indexed(unpackRows(bytes))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new HowdahError(
      'mount_failed',
      `the saved file list ${path} of the write cache is damaged: ${reason}`,
      { cause },
    )
  }
}

/** @throws HowdahError `backup_damaged` when a directory has a name twice */
function indexed(rows: RowColumns): BaseTree {
  try {
    const seed = randomInt(2 ** 31)
    return BaseTree.of(indexRows(rows, seed, (mode) => (mode & S_IFMT) === S_IFDIR))
  } catch (error) {
    if (!(error instanceof DuplicateName)) throw error
    const { ino } = error
    const { parents, nameStarts, names } = rows
    const parts: string[] = []
    for (let at = ino; at > ROOT; at = parents[at] ?? 0) {
      parts.unshift(text(names, nameStarts[at], nameStarts[at + 1]))
    }
    throw wrongEntry(parts.join('/'), 'twice')
  }
}

const wrongEntry = (path: string, finding: string) =>
  new HowdahError('backup_damaged', `the backup's list of files has ${JSON.stringify(path)} ${finding}`)
