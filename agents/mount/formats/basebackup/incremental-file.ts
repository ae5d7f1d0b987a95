/**
 * PostgreSQL 17's incremental files, `INCREMENTAL.<name>`: the blocks of a relation segment that changed since an
 * earlier backup. Composes the segment of several such files, as pg_combinebackup would write it.
 *
 * Facts (src/backend/backup/basebackup_incremental.c, src/bin/pg_combinebackup/reconstruct.c): 32-bit words, native
 * endian: magic, number of blocks, truncation length in blocks, the blocks' numbers; padded to a whole block unless
 * there are none; then the blocks. A block that is in none of the incremental files comes from the full file, or is
 * zeros.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import type { ComposedFile, StoredFile } from '../../decode/stored-file.ts'
import { damaged } from '../../decode/stored-file.ts'
import type { Spool } from '../../spool/spool.ts'

const MAGIC = 0xd3ae1f0d
export const BLOCK_BYTES = 8192
/** Of a file without blocks. */
export const HEADER_BYTES = 12

export interface IncrementalHeader {
  /** Ascending. */
  readonly blocks: Uint32Array
  /** In blocks: only blocks below it can come from an older backup. */
  readonly truncation: number
  /** Where the first block is, bytes. */
  readonly dataOffset: number
}

/** Number of blocks of the segment that an incremental file represents. */
export const blockCount = ({ blocks, truncation }: IncrementalHeader): number =>
  Math.max(truncation, (blocks.at(-1) ?? -1) + 1)

/**
 * @param most blocks that a segment of the cluster can have
 * @throws HowdahError `backup_damaged` | `repository_unavailable`
 */
export async function readIncrementalHeader(
  file: StoredFile,
  spool: Spool,
  most: number,
): Promise<IncrementalHeader> {
  const size = file.size ?? 0
  // The numbers of most files are in their first block.
  const head = await spool.read(file, 0, Math.min(size, BLOCK_BYTES))
  if (head.length < HEADER_BYTES || head.readUInt32LE(0) !== MAGIC) {
    throw damaged(file, 'it does not begin as an incremental file')
  }
  const count = head.readUInt32LE(4)
  const truncation = head.readUInt32LE(8)
  if (count > most) throw damaged(file, `its header has ${count} blocks, and a segment at most ${most}`)
  const end = HEADER_BYTES + count * 4
  const dataOffset = count === 0 ? end : Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES
  const expected = dataOffset + count * BLOCK_BYTES
  if (size !== expected) throw damaged(file, `it has ${size} bytes where ${count} blocks take ${expected}`)
  const words = end <= head.length ? head : await spool.read(file, 0, end)
  if (words.length < end) throw damaged(file, `it ends before ${end}`)
  const blocks = new Uint32Array(count)
  for (let n = 0; n < count; n++) {
    const block = words.readUInt32LE(HEADER_BYTES + n * 4)
    if (block >= most || (n > 0 && block <= (blocks[n - 1] ?? 0))) {
      throw damaged(file, `its block ${n} has the number ${block}`)
    }
    blocks[n] = block
  }
  // Some minor releases count in it the blocks of segments that follow, too (GetFileBackupMethod).
  return { blocks, truncation: Math.min(truncation, most), dataOffset }
}

/** A segment of a relation in several files. */
export interface Segment {
  readonly bytes: number
  /** Blocks from this one on are in the newest file, or are zeros. */
  readonly limit: number
  /** The incremental file of the backup itself; undefined: it has no blocks. */
  readonly newest: StoredFile | undefined
  /** Incremental files of older backups that have blocks, newest first. */
  readonly older: readonly StoredFile[]
  readonly full: { readonly file: StoredFile; readonly bytes: number }
}

/**
 * A segment that is composed when it is read; the full file itself where nothing is changed of it. Headers are read once.
 * @param most blocks that a segment of the cluster can have
 */
export function composeSegment(segment: Segment, spool: Spool, most: number): StoredFile | ComposedFile {
  const { bytes, limit, newest, older, full } = segment
  if (newest === undefined && older.length === 0 && full.bytes === bytes) return full.file
  const headers = new Map<StoredFile, Promise<IncrementalHeader>>()

  function headerOf(file: StoredFile): Promise<IncrementalHeader> {
    let header = headers.get(file)
    if (header === undefined) {
      header = readIncrementalHeader(file, spool, most)
      headers.set(file, header)
      header.catch(() => headers.delete(file))
    }
    return header
  }

  async function findIn(file: StoredFile, block: number): Promise<number | undefined> {
    const { blocks, dataOffset } = await headerOf(file)
    const index = indexOf(blocks, block)
    return index < 0 ? undefined : dataOffset + index * BLOCK_BYTES
  }

  /** The file that holds a block, and the offset in it; undefined: the block is zeros. */
  async function find(block: number): Promise<{ file: StoredFile; offset: number } | undefined> {
    const own = newest && (await findIn(newest, block))
    if (newest !== undefined && own !== undefined) return { file: newest, offset: own }
    // Blocks of older backups from there on were truncated since.
    if (block >= limit) return undefined
    for (const file of older) {
      const offset = await findIn(file, block)
      if (offset !== undefined) return { file, offset }
    }
    const offset = block * BLOCK_BYTES
    return offset + BLOCK_BYTES <= full.bytes ? { file: full.file, offset } : undefined
  }

  return {
    async read(offset, length, signal) {
      const end = Math.min(offset + length, bytes)
      if (offset >= end) return Buffer.alloc(0)
      const out = Buffer.alloc(end - offset)
      // Adjacent blocks of one file are read together.
      let run: { file: StoredFile; from: number; at: number; length: number } | undefined
      const flush = async () => {
        if (run === undefined) return
        const { file, from, at, length: wanted } = run
        run = undefined
        const data = await spool.read(file, from, wanted, signal)
        if (data.length !== wanted) throw damaged(file, `it ends before ${from + wanted}`)
        data.copy(out, at)
      }
      for (let at = offset; at < end; ) {
        const block = Math.floor(at / BLOCK_BYTES)
        const inBlock = at - block * BLOCK_BYTES
        const taken = Math.min(BLOCK_BYTES - inBlock, end - at)
        const found = await find(block)
        const from = found === undefined ? 0 : found.offset + inBlock
        if (found !== undefined && run?.file === found.file && run.from + run.length === from) {
          run.length += taken
        } else {
          await flush()
          if (found !== undefined) run = { file: found.file, from, at: at - offset, length: taken }
        }
        at += taken
      }
      await flush()
      return out
    },
  }
}

function indexOf(blocks: Uint32Array, block: number): number {
  let low = 0
  let high = blocks.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((blocks[middle] ?? 0) < block) low = middle + 1
    else high = middle
  }
  return blocks[low] === block ? low : -1
}

/** The error `backup_damaged` for a chain without a full file. */
export const noFullFile = (path: string, label: string, oldest: string): HowdahError =>
  new HowdahError(
    'backup_damaged',
    `backup ${label} has only changes of ${path}, and backup ${oldest}, on which they are based, has no full file of it`,
  )
