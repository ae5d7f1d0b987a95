/**
 * Which blocks of one file are held locally, and how: two bits per block, kept and saved in chunks. Knows neither the
 * file's size nor where the blocks lie.
 */

/** Bytes per block: PostgreSQL's page. */
export const BLOCK = 8192

/** Not held: in the repository, or a hole. */
export const ABSENT = 0
/** A local copy of what the repository has. */
export const FETCHED = 1
/** Written since publishing. */
export const CHANGED = 2

export type BlockState = typeof ABSENT | typeof FETCHED | typeof CHANGED

/** Blocks per chunk; a full one takes 1 KiB and stands for 32 MiB of the file. */
const CHUNK_BLOCKS = 4096

export interface MapChunk {
  readonly chunk: number
  /** Four blocks per byte, the lowest bits first; empty when no block is held. Shorter than a full chunk at the end. */
  readonly map: Uint8Array
}

export class BlockMap {
  fetched = 0
  changed = 0
  readonly #chunks = new Map<number, Uint8Array>()
  readonly #dirty = new Set<number>()

  static from(chunks: Iterable<MapChunk>): BlockMap {
    const map = new BlockMap()
    for (const { chunk, map: bits } of chunks) {
      map.#chunks.set(chunk, new Uint8Array(bits))
      for (let block = 0; block < bits.length * 4; block++) {
        map.#count(((bits[block >> 2] ?? 0) >> ((block & 3) * 2)) & 3, 1)
      }
    }
    return map
  }

  get(block: number): BlockState {
    const bits = this.#chunks.get(Math.floor(block / CHUNK_BLOCKS))
    if (bits === undefined) return ABSENT
    const index = block % CHUNK_BLOCKS
    return (((bits[index >> 2] ?? 0) >> ((index & 3) * 2)) & 3) as BlockState
  }

  /** Nothing changed since the last `takeDirty`. */
  get isClean(): boolean {
    return this.#dirty.size === 0
  }

  /** One more than the last block that is held. */
  get end(): number {
    let end = 0
    for (const [chunk, bits] of this.#chunks) {
      const byte = bits.findLastIndex((four) => four !== 0)
      if (byte < 0) continue
      const last = chunk * CHUNK_BLOCKS + byte * 4 + ((31 - Math.clz32(bits[byte] ?? 0)) >> 1)
      end = Math.max(end, last + 1)
    }
    return end
  }

  /** The first block from `from` on that is held; -1 when there is none. */
  nextHeld(from: number): number {
    let found = -1
    for (const [chunk, bits] of this.#chunks) {
      const start = chunk * CHUNK_BLOCKS
      if (start + bits.length * 4 <= from || (found >= 0 && start > found)) continue
      for (let block = Math.max(from, start); block < start + bits.length * 4; block++) {
        if (bits[(block - start) >> 2] === 0) block |= 3
        else if (this.get(block) !== ABSENT) {
          found = block
          break
        }
      }
    }
    return found
  }

  /** The first block from `from` on that is not held. */
  nextAbsent(from: number): number {
    let block = from
    while (this.get(block) !== ABSENT) block++
    return block
  }

  /** Sets blocks `first` to `last`; tells whether any was different before. */
  set(first: number, last: number, state: BlockState): boolean {
    let different = false
    for (let block = first; block <= last; block++) {
      const before = this.get(block)
      if (before === state) continue
      different = true
      this.#count(before, -1)
      this.#count(state, 1)
      const chunk = Math.floor(block / CHUNK_BLOCKS)
      const index = block % CHUNK_BLOCKS
      const bits = this.#room(chunk, index >> 2)
      const shift = (index & 3) * 2
      bits[index >> 2] = ((bits[index >> 2] ?? 0) & ~(3 << shift)) | (state << shift)
      this.#dirty.add(chunk)
    }
    return different
  }

  /** Forgets every block from `first` on. */
  clearFrom(first: number): void {
    for (const [chunk, bits] of this.#chunks) {
      const start = chunk * CHUNK_BLOCKS
      const end = start + bits.length * 4
      if (end > first) this.set(Math.max(start, first), end - 1, ABSENT)
    }
  }

  countChanged(first: number, last: number): number {
    let count = 0
    for (let block = first; block <= last; block++) if (this.get(block) === CHANGED) count++
    return count
  }

  /** Copies of the chunks that changed since the last call. */
  takeDirty(): MapChunk[] {
    const taken: MapChunk[] = []
    for (const chunk of this.#dirty) {
      const bits = this.#chunks.get(chunk) ?? new Uint8Array()
      let used = bits.length
      while (used > 0 && bits[used - 1] === 0) used--
      taken.push({ chunk, map: bits.slice(0, used) })
    }
    this.#dirty.clear()
    return taken
  }

  /** What was taken could not be saved. */
  restoreDirty(chunks: readonly MapChunk[]): void {
    for (const { chunk } of chunks) this.#dirty.add(chunk)
  }

  #count(state: number, by: number): void {
    if (state === FETCHED) this.fetched += by
    else if (state === CHANGED) this.changed += by
  }

  #room(chunk: number, byte: number): Uint8Array {
    const bits = this.#chunks.get(chunk)
    if (bits !== undefined && byte < bits.length) return bits
    // Most files are small; their chunk grows with them.
    let length = Math.max(16, bits?.length ?? 0)
    while (length <= byte) length *= 2
    const grown = new Uint8Array(Math.min(length, CHUNK_BLOCKS / 4))
    if (bits !== undefined) grown.set(bits)
    this.#chunks.set(chunk, grown)
    return grown
  }
}
