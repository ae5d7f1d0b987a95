/**
 * Which blocks of one file the session has changed: one bit per block, saved in chunks. All other blocks come from the
 * backup, or are holes. Knows neither the file's size nor where the blocks are stored.
 */

/** Bytes per block: PostgreSQL's page. */
export const BLOCK = 8192

/** Blocks per chunk; a full chunk takes 1 KiB and covers 64 MiB of the file. */
const CHUNK_BLOCKS = 8192
const CHUNK_BYTES = CHUNK_BLOCKS / 8

export interface MapChunk {
  readonly chunk: number
  /** Eight blocks per byte, the lowest bit first; empty when none is changed. Trailing zeros are omitted. */
  readonly map: Uint8Array
}

/** Number of bits set in a byte. */
const BITS = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length)

const NO_CHUNKS: Map<number, Uint8Array> = new Map()

export class BlockMap {
  /** Number of changed blocks. */
  changed = 0
  /** Increases whenever a block is set or cleared. */
  version = 0
  // Most files are never changed, and a backup may have very many.
  #chunks: Map<number, Uint8Array> = NO_CHUNKS
  #dirty: Set<number> | undefined

  static from(chunks: Iterable<MapChunk>): BlockMap {
    const map = new BlockMap()
    for (const { chunk, map: bits } of chunks) {
      map.#ownChunks().set(chunk, new Uint8Array(bits))
      for (const byte of bits) map.changed += BITS[byte] ?? 0
    }
    return map
  }

  isChanged(block: number): boolean {
    if (this.changed === 0) return false
    const bits = this.#chunks.get(Math.floor(block / CHUNK_BLOCKS))
    return bits !== undefined && ((bits[(block % CHUNK_BLOCKS) >> 3] ?? 0) & (1 << (block & 7))) !== 0
  }

  /** The last changed block plus one. */
  get end(): number {
    let end = 0
    for (const [chunk, bits] of this.#chunks) {
      const byte = bits.findLastIndex((eight) => eight !== 0)
      if (byte < 0) continue
      end = Math.max(end, chunk * CHUNK_BLOCKS + byte * 8 + 32 - Math.clz32(bits[byte] ?? 0))
    }
    return end
  }

  /** The first changed block from `from` on; -1 when there is none. */
  nextChanged(from: number): number {
    let found = -1
    for (const [chunk, bits] of this.#chunks) {
      const start = chunk * CHUNK_BLOCKS
      if (start + bits.length * 8 <= from || (found >= 0 && start > found)) continue
      const index = firstBit(bits, Math.max(from - start, 0), 0)
      if (index < bits.length * 8) found = start + index
    }
    return found
  }

  /** The first unchanged block from `from` on. */
  nextUnchanged(from: number): number {
    for (let block = from; ; ) {
      const chunk = Math.floor(block / CHUNK_BLOCKS)
      const bits = this.#chunks.get(chunk)
      if (bits === undefined) return block
      const index = firstBit(bits, block % CHUNK_BLOCKS, 0xff)
      block = Math.max(block, chunk * CHUNK_BLOCKS + index)
      if (index < CHUNK_BLOCKS) return block
    }
  }

  /** Marks blocks `first` to `last` as changed; returns whether any was not. */
  change(first: number, last: number): boolean {
    return this.#set(first, last, true)
  }

  /** Marks blocks `first` to `last` as unchanged. */
  clear(first: number, last: number): void {
    for (const [chunk, bits] of this.#chunks) {
      const start = chunk * CHUNK_BLOCKS
      this.#set(Math.max(first, start), Math.min(last, start + bits.length * 8 - 1), false)
    }
  }

  /** Marks every block from `first` on as unchanged. */
  clearFrom(first: number): void {
    this.clear(first, Number.POSITIVE_INFINITY)
  }

  countChanged(first: number, last: number): number {
    if (this.changed === 0) return 0
    if (first === last) return this.isChanged(first) ? 1 : 0
    let count = 0
    for (let block = first; block <= last; block = nextByte(block)) {
      const byte = this.#chunks.get(Math.floor(block / CHUNK_BLOCKS))?.[(block % CHUNK_BLOCKS) >> 3] ?? 0
      count += BITS[byte & bitsOf(block, last)] ?? 0
    }
    return count
  }

  /** Copies of the chunks that changed since the last call. */
  takeDirty(): MapChunk[] {
    const taken: MapChunk[] = []
    for (const chunk of this.#dirty ?? []) {
      const bits = this.#chunks.get(chunk) ?? new Uint8Array()
      let used = bits.length
      while (used > 0 && bits[used - 1] === 0) used--
      taken.push({ chunk, map: bits.slice(0, used) })
    }
    this.#dirty = undefined
    return taken
  }

  /** The chunks taken could not be saved; they count as changed again. */
  restoreDirty(chunks: readonly MapChunk[]): void {
    for (const { chunk } of chunks) this.#noteDirty(chunk)
  }

  #set(first: number, last: number, to: boolean): boolean {
    const before = this.changed
    for (let block = first; block <= last; block = nextByte(block)) {
      const chunk = Math.floor(block / CHUNK_BLOCKS)
      const byte = (block % CHUNK_BLOCKS) >> 3
      const mask = bitsOf(block, last)
      const held = this.#chunks.get(chunk)?.[byte] ?? 0
      const now = to ? held | mask : held & ~mask
      if (now === held) continue
      this.#room(chunk, byte)[byte] = now
      this.changed += (BITS[now] ?? 0) - (BITS[held] ?? 0)
      this.#noteDirty(chunk)
    }
    if (this.changed === before) return false
    this.version++
    return true
  }

  #noteDirty(chunk: number): void {
    this.#dirty ??= new Set()
    this.#dirty.add(chunk)
  }

  #ownChunks(): Map<number, Uint8Array> {
    if (this.#chunks === NO_CHUNKS) this.#chunks = new Map()
    return this.#chunks
  }

  #room(chunk: number, byte: number): Uint8Array {
    const bits = this.#chunks.get(chunk)
    if (bits !== undefined && byte < bits.length) return bits
    // Most files are small, so their chunk grows with them.
    let length = Math.max(16, bits?.length ?? 0)
    while (length <= byte) length *= 2
    const grown = new Uint8Array(Math.min(length, CHUNK_BYTES))
    if (bits !== undefined) grown.set(bits)
    this.#ownChunks().set(chunk, grown)
    return grown
  }
}

/** The first block of the next byte. */
const nextByte = (block: number) => block + 8 - (block & 7)

/** The mask of `block` and its successors, up to `last`, within the byte of `block`. */
function bitsOf(block: number, last: number): number {
  const from = block & 7
  const to = Math.min(7, from + last - block)
  return (0xff >> (7 - to)) & (0xff << from)
}

/** The first bit from `from` on that differs from `background` (0 or 0xff); the number of bits when there is none. */
function firstBit(bits: Uint8Array, from: number, background: number): number {
  for (let index = from; index < bits.length * 8; ) {
    const different = ((bits[index >> 3] ?? 0) ^ background) >> (index & 7)
    if (different !== 0) return index + 31 - Math.clz32(different & -different)
    index += 8 - (index & 7)
  }
  return Math.max(from, bits.length * 8)
}
