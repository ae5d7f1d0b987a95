/**
 * Which blocks of the backup are held, and in which slots of the store: in memory, with what is known of each. Reads and
 * writes nothing; the store does.
 */
import { CHUNK_BLOCKS, type FetchedChunk } from './fetched-chunks.ts'

/** Files and chunks as one number. */
const CHUNKS_PER_FILE = 2 ** 20
/** A file with more blocks cannot be held behind them. */
export const MAX_FILE_BLOCKS = CHUNKS_PER_FILE * CHUNK_BLOCKS
const FIRST_LENGTH = 8

/** A slot of 0 holds nothing. */
interface Held {
  readonly slots: Uint32Array
  readonly checks: Uint32Array
  /** For each block, of `VERIFIED` and `UNSAVED`. */
  readonly flags: Uint8Array
}

/** Its bytes were compared with their checksum in this process. */
const VERIFIED = 1
/** The index does not name it: nobody has said that it is on disk. */
const UNSAVED = 2

export class HeldBlocks {
  count = 0
  readonly #chunks = new Map<number, Held>()
  /** Chunks with blocks that are to be saved. */
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

  /** Whether the block's checksum is this one. */
  verify(file: number, block: number, check: number): boolean {
    const held = this.#chunk(file, block)
    const index = block % CHUNK_BLOCKS
    if (held === undefined || held.checks[index] !== check) return false
    held.flags[index] = (held.flags[index] ?? 0) | VERIFIED
    return true
  }

  /** A block that came to the store. Where others brought it meanwhile, what is held stays where it is. */
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

  /** What the index names. */
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

  /** The block is not held any more; gives the slot that it was held in. */
  forget(file: number, block: number): number | undefined {
    const held = this.#chunk(file, block)
    const index = block % CHUNK_BLOCKS
    const slot = held?.slots[index] ?? 0
    if (held === undefined || slot === 0) return undefined
    this.#clear(held, index)
    return slot
  }

  /** No block of the file is held any more; whether one was. */
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

  /** No block that the index does not name is held any more. */
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
   * What is to be saved; `saved` or `notSaved` is to follow. Only what the index does not name: what others have taken out
   * of it shall not come back by this session.
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

  /** What is still held of what was to be saved: what was forgotten meanwhile must not get into the index. */
  stillHeld(chunks: readonly FetchedChunk[]): FetchedChunk[] {
    return chunks.map((chunk) => {
      const held = this.#chunks.get(chunk.file * CHUNKS_PER_FILE + chunk.chunk)
      return { ...chunk, slots: chunk.slots.map((slot, index) => (held?.slots[index] === slot ? slot : 0)) }
    })
  }

  /** The index names them now. */
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

  /** A chunk with a place for a block at `index`: most files are small, their chunk grows with them. */
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
