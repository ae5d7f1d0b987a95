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

export const INCREMENTAL_PREFIX = 'INCREMENTAL.'
const MAGIC = 0xd3ae1f0d
export const BLOCK_BYTES = 8192
/** A segment of a relation has 131,072 blocks unless PostgreSQL was built otherwise (--with-segsize). */
const MAX_BLOCKS = 16 * 1024 * 1024
const HEADER_BYTES = 12

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

/** @throws HowdahError `backup_damaged` | `repository_unavailable` */
export async function readIncrementalHeader(file: StoredFile, spool: Spool): Promise<IncrementalHeader> {
  const head = await spool.read(file, 0, HEADER_BYTES)
  if (head.length < HEADER_BYTES || head.readUInt32LE(0) !== MAGIC) {
    throw damaged(file, 'it does not begin as an incremental file')
  }
  const count = head.readUInt32LE(4)
  const truncation = head.readUInt32LE(8)
  if (count > MAX_BLOCKS || truncation > MAX_BLOCKS) {
    throw damaged(file, `its header has ${count} blocks, and a length of ${truncation}`)
  }
  const numbers = await spool.read(file, HEADER_BYTES, count * 4)
  const end = HEADER_BYTES + count * 4
  const dataOffset = count === 0 ? end : Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES
  const expected = dataOffset + count * BLOCK_BYTES
  if (numbers.length !== count * 4 || (file.size !== undefined && file.size !== expected)) {
    throw damaged(file, `it has ${file.size} bytes where ${count} blocks take ${expected}`)
  }
  const blocks = new Uint32Array(count)
  for (let n = 0; n < count; n++) {
    const block = numbers.readUInt32LE(n * 4)
    if (block >= MAX_BLOCKS || (n > 0 && block <= (blocks[n - 1] ?? 0))) {
      throw damaged(file, `its block ${n} has the number ${block}`)
    }
    blocks[n] = block
  }
  return { blocks, truncation, dataOffset }
}

/** One file of a chain of backups. */
export type ChainFile =
  | { readonly kind: 'full'; readonly file: StoredFile; readonly bytes: number }
  | { readonly kind: 'incremental'; readonly file: StoredFile }

/**
 * A segment that is composed when it is read.
 * @param chain newest first; the last one is full
 * @param bytes of the segment
 */
export function composeSegment(chain: readonly ChainFile[], bytes: number, spool: Spool): ComposedFile {
  const headers = new Map<StoredFile, Promise<IncrementalHeader>>()

  function headerOf(file: StoredFile): Promise<IncrementalHeader> {
    let header = headers.get(file)
    if (header === undefined) {
      header = readIncrementalHeader(file, spool)
      headers.set(file, header)
      header.catch(() => headers.delete(file))
    }
    return header
  }

  /** The file that holds a block, and the offset in it; undefined: the block is zeros. */
  async function find(block: number): Promise<{ file: StoredFile; offset: number } | undefined> {
    for (const [age, link] of chain.entries()) {
      if (link.kind === 'full') {
        const offset = block * BLOCK_BYTES
        return offset + BLOCK_BYTES <= link.bytes ? { file: link.file, offset } : undefined
      }
      const { blocks, truncation, dataOffset } = await headerOf(link.file)
      const index = indexOf(blocks, block)
      if (index >= 0) return { file: link.file, offset: dataOffset + index * BLOCK_BYTES }
      // Blocks of older backups from there on were truncated since.
      if (age === 0 && block >= truncation) return undefined
    }
    return undefined
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
