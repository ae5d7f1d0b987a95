/**
 * Which blocks of the backup are held, in which slots of the store, with checksum and flags: in memory only. The store
 * does the reading and writing.
 */
import { CHUNK_BLOCKS, type FetchedChunk } from './fetched-chunks.ts'

/** Combines file and chunk numbers into one key. */
const CHUNKS_PER_FILE = 2 ** 20
/** Blocks of a file from this number on cannot be held. */
export const MAX_FILE_BLOCKS = CHUNKS_PER_FILE * CHUNK_BLOCKS
const FIRST_LENGTH = 8

/** Slot 0: the block is not held. */
interface Held {
  readonly slots: Uint32Array
  readonly checks: Uint32Array
  /** For each block, a combination of `VERIFIED` and `UNSAVED`. */
  readonly flags: Uint8Array
}

/** Its checksum was verified in this process. */
const VERIFIED = 1
/** The index does not name it: it may not be on disk. */
const UNSAVED = 2

export class HeldBlocks {
  count = 0
  readonly #chunks = new Map<number, Held>()
  /** Chunks with blocks to save. */
  #dirty = new Set<number>()

  get hasUnsaved(): boolean {
    return this.#dirty.size > 0
  }

  /** 0: not held. */
  slot(file: number, block: number): number {
    return this.#chunk(file, block)?.slots[block % CHUNK_BLOCKS] ?? 0
  }

  isVerified(file: number, block: number): boolean {
    return ((this.#chunk(file, block)?.flags[block % CHUNK_BLOCKS] ?? 0) & VERIFIED) !== 0
  }

  /** Whether the block's checksum equals `check`; if so it counts as verified. */
  verify(file: number, block: number, check: number): boolean {
    const held = this.#chunk(file, block)
    const index = block % CHUNK_BLOCKS
    if (held === undefined || held.checks[index] !== check) return false
    held.flags[index] = (held.flags[index] ?? 0) | VERIFIED
    return true
  }

  /** Adds a block that was written to the store. Does nothing when the block is already held. */
  add(file: number, block: number, slot: number, check: number): void {
    const key = keyOf(file, block)
    const index = block % CHUNK_BLOCKS
    const { slots, checks, flags } = this.#room(key, index)
    if (slots[index] !== 0) return
    slots[index] = slot
    checks[index] = check
    flags[index] = UNSAVED
    this.count++
    this.#dirty.add(key)
  }

  /** Adds the blocks that the index names. */
  merge(chunks: readonly FetchedChunk[]): void {
    for (const { file, chunk, slots, checks } of chunks) {
      if (slots.length === 0) continue
      const mine = this.#room(file * CHUNKS_PER_FILE + chunk, slots.length - 1)
      for (let at = 0; at < slots.length; at++) {
        const slot = slots[at] ?? 0
        if (slot === 0 || mine.slots[at] !== 0) continue
        mine.slots[at] = slot
        mine.checks[at] = checks[at] ?? 0
        this.count++
      }
    }
  }

  /** Drops a block; returns its slot, or undefined when it was not held. */
  forget(file: number, block: number): number | undefined {
    const held = this.#chunk(file, block)
    const index = block % CHUNK_BLOCKS
    const slot = held?.slots[index] ?? 0
    if (held === undefined || slot === 0) return undefined
    this.#clear(held, index)
    return slot
  }

  /** Drops all blocks of a file; returns whether there were any. */
  forgetFile(file: number): boolean {
    const before = this.count
    for (const [key, held] of this.#chunks) {
      if (Math.floor(key / CHUNKS_PER_FILE) !== file) continue
      for (let index = 0; index < held.slots.length; index++) {
        if (held.slots[index] !== 0) this.#clear(held, index)
      }
    }
    return this.count < before
  }

  /** Drops all blocks that the index does not name. */
  forgetUnsaved(): void {
    this.#dirty.clear()
    for (const held of this.#chunks.values()) {
      for (let index = 0; index < held.slots.length; index++) {
        if (((held.flags[index] ?? 0) & UNSAVED) !== 0) this.#clear(held, index)
      }
    }
  }

  forgetAll(): void {
    this.#chunks.clear()
    this.#dirty.clear()
    this.count = 0
  }

  /**
   * The blocks to save; a call of `saved` or `notSaved` must follow. Only blocks that the index does not name: those that
   * another process removed from it must not be added again.
   */
  takeUnsaved(): FetchedChunk[] {
    const keys = [...this.#dirty]
    this.#dirty.clear()
    return keys.map((key) => {
      const { slots, checks, flags } = this.#room(key, 0)
      const used = flags.findLastIndex((flag) => (flag & UNSAVED) !== 0) + 1
      return {
        file: Math.floor(key / CHUNKS_PER_FILE),
        chunk: key % CHUNKS_PER_FILE,
        slots: slots.slice(0, used).map((slot, index) => (((flags[index] ?? 0) & UNSAVED) !== 0 ? slot : 0)),
        checks: checks.slice(0, used),
      }
    })
  }

  /** The chunks without blocks that were dropped meanwhile, which must not be saved. */
  stillHeld(chunks: readonly FetchedChunk[]): FetchedChunk[] {
    return chunks.map((chunk) => {
      const held = this.#chunks.get(chunk.file * CHUNKS_PER_FILE + chunk.chunk)
      return { ...chunk, slots: chunk.slots.map((slot, index) => (held?.slots[index] === slot ? slot : 0)) }
    })
  }

  /** The index names these blocks now. */
  saved(chunks: readonly FetchedChunk[]): void {
    for (const { file, chunk, slots } of chunks) {
      const held = this.#chunks.get(file * CHUNKS_PER_FILE + chunk)
      if (held === undefined) continue
      for (const [index, slot] of slots.entries()) {
        if (slot === 0 || held.slots[index] !== slot) continue
        held.flags[index] = (held.flags[index] ?? 0) & ~UNSAVED
      }
    }
  }

  /** They could not be saved and stay to be saved. */
  notSaved(chunks: readonly FetchedChunk[]): void {
    for (const { file, chunk } of chunks) this.#dirty.add(file * CHUNKS_PER_FILE + chunk)
  }

  #chunk(file: number, block: number): Held | undefined {
    return this.#chunks.get(keyOf(file, block))
  }

  #clear({ slots, flags }: Held, index: number): void {
    slots[index] = 0
    flags[index] = 0
    this.count--
  }

  /** A chunk with space for a block at `index`: most files are small, so their chunk grows with them. */
  #room(key: number, index: number): Held {
    const held = this.#chunks.get(key)
    if (held !== undefined && index < held.slots.length) return held
    let length = held?.slots.length ?? FIRST_LENGTH
    while (length <= index) length *= 2
    const grown: Held = {
      slots: new Uint32Array(length),
      checks: new Uint32Array(length),
      flags: new Uint8Array(length),
    }
    if (held !== undefined) {
      grown.slots.set(held.slots)
      grown.checks.set(held.checks)
      grown.flags.set(held.flags)
    }
    this.#chunks.set(key, grown)
    return grown
  }
}

function keyOf(file: number, block: number): number {
  return file * CHUNKS_PER_FILE + Math.floor(block / CHUNK_BLOCKS)
}
