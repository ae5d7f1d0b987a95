/** The index of a fetched store as rows of SQLite: which slot of `blocks.data` holds which block, and its checksum. */
import { STORE_FORMAT } from './fetched-stores.ts'

/** Blocks per chunk of the index: 8 MiB of a file. */
export const CHUNK_BLOCKS = 1024

/** The slots of consecutive blocks of a file of the backup; 0: not held. */
export interface FetchedChunk {
  readonly file: number
  readonly chunk: number
  /** Slots of block `chunk * CHUNK_BLOCKS` and its successors; may be shorter than the chunk. */
  readonly slots: Uint32Array
  /** The checksums of the blocks in the slots, by `blockCheck`; as many as slots. */
  readonly checks: Uint32Array
}

interface ChunkRow {
  readonly file: number
  readonly chunk: number
  readonly slots: Uint8Array
  readonly checks: Uint8Array
}

/** The first bytes of `blocks.data`. */
export function storeHeader(id: string): string {
  return `howdah fetched blocks ${STORE_FORMAT} ${id}\n`
}

/** Decodes rows of the columns file, chunk, slots and checks. @throws Error when a row is invalid */
export function chunksOfRows(found: readonly unknown[]): FetchedChunk[] {
  return (found as ChunkRow[]).map(({ file, chunk, slots, checks }) => {
    const { length } = slots
    const isValid = length % 4 === 0 && length <= CHUNK_BLOCKS * 4 && checks.length === length
    if (!isValid || file < 0 || chunk < 0) throw new Error('the index is damaged')
    const words = (bytes: Uint8Array) => new Uint32Array(bytes.slice().buffer)
    return { file, chunk, slots: words(slots), checks: words(checks) }
  })
}

export function bytesOf({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

/** Adds blocks to a chunk; blocks it already has stay in their slots. */
export function merged(held: FetchedChunk | undefined, added: FetchedChunk): FetchedChunk {
  if (held === undefined) return added
  const length = Math.max(held.slots.length, added.slots.length)
  const slots = new Uint32Array(length)
  const checks = new Uint32Array(length)
  slots.set(held.slots)
  checks.set(held.checks)
  for (const [at, slot] of added.slots.entries()) {
    if (slots[at] !== 0) continue
    slots[at] = slot
    checks[at] = added.checks[at] ?? 0
  }
  return { ...added, slots, checks }
}
