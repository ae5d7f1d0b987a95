/**
 * The columns of a base tree: one row per entry, row n for inode n, names and link targets as bytes. Typed arrays only,
 * so that a tree is transferred to another thread without a copy. Finds rows by name; base-tree.ts gives them meaning.
 */

/** The saved columns, in the order of the file. Index 0 of every column by inode is unused. */
export interface RowColumns {
  /** The parent directory. */
  readonly parents: Int32Array<ArrayBuffer>
  /** As `st_mode`. */
  readonly modes: Uint16Array<ArrayBuffer>
  /** Seconds since the epoch, with fraction. */
  readonly mtimes: Float64Array<ArrayBuffer>
  /** Bytes. */
  readonly sizes: Float64Array<ArrayBuffer>
  /** The source's number of the file; -1 without content. */
  readonly files: Float64Array<ArrayBuffer>
  /** Where an entry's name starts in `names`; it ends where the next one starts. One more element than there are rows. */
  readonly nameStarts: Uint32Array<ArrayBuffer>
  /** UTF-8. */
  readonly names: Uint8Array<ArrayBuffer>
  /** Inodes with a text, ascending: targets of symbolic links, contents of extra files. */
  readonly textInos: Int32Array<ArrayBuffer>
  /** As `nameStarts`, by index in `textInos`. */
  readonly textStarts: Uint32Array<ArrayBuffer>
  readonly texts: Uint8Array<ArrayBuffer>
}

export interface IndexColumns {
  /** First child of a directory, and next sibling; 0: none. */
  readonly firstChildren: Int32Array<ArrayBuffer>
  readonly nextSiblings: Int32Array<ArrayBuffer>
  /** Number of subdirectories of a directory. */
  readonly subdirectories: Int32Array<ArrayBuffer>
  /** Open addressing by parent and name; 0: free. */
  readonly table: Int32Array<ArrayBuffer>
  /** Random for each tree, so that names cannot be crafted to collide. */
  readonly seed: number
}

export type TreeColumns = RowColumns & IndexColumns

/** Two entries of a directory have the same name. */
export class DuplicateName extends Error {
  readonly ino: number

  constructor(ino: number) {
    super(`row ${ino} duplicates a name of its directory`)
    this.ino = ino
  }
}

/**
 * Builds the index by directory and name. `isDirectory` takes an `st_mode`.
 * @throws DuplicateName
 */
export function indexRows(
  rows: RowColumns,
  seed: number,
  isDirectory: (mode: number) => boolean,
): TreeColumns {
  const { parents, modes, nameStarts, names } = rows
  const { length } = parents
  const firstChildren = new Int32Array(length)
  const nextSiblings = new Int32Array(length)
  const subdirectories = new Int32Array(length)
  const table = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(16, length * 2))))
  const mask = table.length - 1
  // The root, row 1, has no parent. In reverse, so that the lists of children are in order.
  for (let ino = length - 1; ino > 1; ino--) {
    const parent = parents[ino] ?? 0
    nextSiblings[ino] = firstChildren[parent] ?? 0
    firstChildren[parent] = ino
    if (isDirectory(modes[ino] ?? 0)) subdirectories[parent] = (subdirectories[parent] ?? 0) + 1
  }
  for (let ino = 2; ino < length; ino++) {
    const parent = parents[ino] ?? 0
    const start = nameStarts[ino] ?? 0
    const end = nameStarts[ino + 1] ?? 0
    let hash = startHash(seed, parent)
    for (let at = start; at < end; at++) hash = mix(hash, names[at] ?? 0)
    let slot = finish(hash) & mask
    for (let other = table[slot] ?? 0; other !== 0; other = table[slot] ?? 0) {
      if (parents[other] === parent && sameBytes(rows, other, names, start, end)) throw new DuplicateName(ino)
      slot = (slot + 1) & mask
    }
    table[slot] = ino
  }
  return { ...rows, firstChildren, nextSiblings, subdirectories, table, seed }
}

/** The inode of a name, or 0. */
export function findRow(columns: TreeColumns, parent: number, name: string): number {
  const { table, parents, nameStarts, names, seed } = columns
  const { length } = name
  let hash = startHash(seed, parent)
  for (let at = 0; at < length; at++) {
    const code = name.charCodeAt(at)
    if (code >= 0x80) return findBytes(columns, parent, Buffer.from(name))
    hash = mix(hash, code)
  }
  const mask = table.length - 1
  let slot = finish(hash) & mask
  for (let ino = table[slot] ?? 0; ino !== 0; ino = table[slot] ?? 0) {
    const start = nameStarts[ino] ?? 0
    if (parents[ino] === parent && (nameStarts[ino + 1] ?? 0) - start === length) {
      let at = 0
      while (at < length && names[start + at] === name.charCodeAt(at)) at++
      if (at === length) return ino
    }
    slot = (slot + 1) & mask
  }
  return 0
}

function findBytes(columns: TreeColumns, parent: number, name: Uint8Array): number {
  const { table, parents, seed } = columns
  let hash = startHash(seed, parent)
  for (const byte of name) hash = mix(hash, byte)
  const mask = table.length - 1
  let slot = finish(hash) & mask
  for (let ino = table[slot] ?? 0; ino !== 0; ino = table[slot] ?? 0) {
    if (parents[ino] === parent && sameBytes(columns, ino, name, 0, name.length)) return ino
    slot = (slot + 1) & mask
  }
  return 0
}

/** All buffers of the columns, for `postMessage`. */
export function buffersOf(columns: TreeColumns): ArrayBuffer[] {
  return Object.values(columns).flatMap((column: ArrayBufferView<ArrayBuffer> | number) =>
    typeof column === 'number' ? [] : [column.buffer],
  )
}

function sameBytes(rows: RowColumns, ino: number, bytes: Uint8Array, start: number, end: number): boolean {
  const { nameStarts, names } = rows
  const begin = nameStarts[ino] ?? 0
  if ((nameStarts[ino + 1] ?? 0) - begin !== end - start) return false
  for (let at = start; at < end; at++) if (names[begin + at - start] !== bytes[at]) return false
  return true
}

// Murmur3's mixing, a byte at a time.
const startHash = (seed: number, parent: number) => mix(seed, Math.imul(parent, 0x9e37_79b1))

function mix(hash: number, value: number): number {
  const mixed = hash ^ Math.imul(value, 0xcc9e_2d51)
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe654_6b64) | 0
}

function finish(hash: number): number {
  const once = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b)
  const twice = Math.imul(once ^ (once >>> 13), 0xc2b2_ae35)
  return twice ^ (twice >>> 16)
}
