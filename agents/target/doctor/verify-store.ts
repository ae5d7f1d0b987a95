/**
 * Verifies the blocks of a store of fetched blocks against their checksums. Read-only, and safe while a mount process has
 * the store open; the caller handles corrupt blocks.
 */
import { open } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { BLOCK } from '../filesystem/contents/block-map.ts'
import { blockCheck } from '../filesystem/fetched/block-check.ts'
import { chunksOfRows, type FetchedChunk, storeHeader } from '../filesystem/fetched/fetched-chunks.ts'
import { STORE_FORMAT } from '../filesystem/fetched/fetched-stores.ts'

export interface StoreFindings {
  /** Bytes of the stored blocks, and of those verified until the deadline. */
  readonly bytes: number
  readonly checkedBytes: number
  /** The slots of corrupt blocks, by file. */
  readonly wrong: ReadonlyMap<number, readonly number[]>
}

const BUSY_MS = 2000
/** Blocks per read. */
const MOST_BLOCKS = 128

/**
 * @param deadline on the clock of `performance.now`
 * @throws Error when the store cannot be read, or is inconsistent
 */
export async function verifyStore(directory: string, deadline: number): Promise<StoreFindings> {
  const { id, chunks } = readIndex(`${directory}/index.sqlite`)
  const data = await open(`${directory}/blocks.data`, 'r')
  try {
    const header = Buffer.from(storeHeader(id))
    const { buffer: found } = await data.read(Buffer.alloc(header.length), 0, header.length, 0)
    if (!found.equals(header)) throw new Error('index and data are of different stores')
    const wrong = new Map<number, number[]>()
    const buffer = Buffer.alloc(MOST_BLOCKS * BLOCK)
    let bytes = 0
    let checkedBytes = 0
    for (const chunk of chunks) {
      for (const { from, count } of runs(chunk)) {
        bytes += count * BLOCK
        if (performance.now() > deadline) continue
        const first = chunk.slots[from] ?? 0
        const { bytesRead } = await data.read(buffer, 0, count * BLOCK, first * BLOCK)
        buffer.fill(0, bytesRead, count * BLOCK)
        checkedBytes += count * BLOCK
        for (let at = 0; at < count; at++) {
          if (blockCheck(buffer.subarray(at * BLOCK, (at + 1) * BLOCK)) === chunk.checks[from + at]) continue
          wrong.set(chunk.file, [...(wrong.get(chunk.file) ?? []), first + at])
        }
      }
    }
    return { bytes, checkedBytes, wrong }
  } finally {
    await data.close()
  }
}

function readIndex(path: string): { id: string; chunks: FetchedChunk[] } {
  const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS })
  try {
    const [problem] = database.prepare('PRAGMA quick_check(1)').all().flatMap(Object.values)
    if (problem !== 'ok') throw new Error(`SQLite says of its index: ${String(problem)}`)
    const store = database.prepare('SELECT format, id FROM store').get()
    if (store?.format !== STORE_FORMAT)
      throw new Error(`it is of format ${String(store?.format)}, of another version`)
    const rows = database.prepare('SELECT file, chunk, slots, checks FROM chunks').all()
    return { id: String(store.id), chunks: chunksOfRows(rows) }
  } finally {
    database.close()
  }
}

/** Ranges of a chunk whose blocks are in consecutive slots. */
function* runs({ slots }: FetchedChunk): Generator<{ from: number; count: number }> {
  for (let from = 0; from < slots.length; ) {
    const slot = slots[from] ?? 0
    if (slot === 0) {
      from++
      continue
    }
    let count = 1
    while (count < MOST_BLOCKS && slots[from + count] === slot + count) count++
    yield { from, count }
    from += count
  }
}
