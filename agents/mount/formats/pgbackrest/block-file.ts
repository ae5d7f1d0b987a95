/**
 * Files that were backed up block by block: a range is read from only the super blocks that hold its blocks. Blocks are
 * verified against their checksums in the map (src/command/backup/blockIncr.c): compressed or encrypted ones once each
 * time that they are decoded, others whenever they are read as a whole.
 *
 * Decoded super blocks are kept in the spool's memory; maps are kept here, up to a sum of bytes.
 */
import { createXXHash128, type IHasher } from 'hash-wasm'
import { createBoundedCache } from '../../bounded-cache.ts'
import type { Checksum } from '../../decode/checksum.ts'
import {
  type ComposedFile,
  damaged,
  damagedFile,
  type Region,
  type StoredFile,
  type Transform,
} from '../../decode/stored-file.ts'
import type { Spool } from '../../spool/spool.ts'
import { type CheckedFile, createWholeChecks, type WholeChecks } from '../../spool/whole-checks.ts'
import { type BlockMap, type BlockMapShape, readBlockMap, type SuperBlock } from './block-map.ts'
import { MalformedInfo } from './ini.ts'

/** Of all maps of a repository's open backups. */
const MAPS_BYTES = 64 * 1024 * 1024
/** Super blocks of a file whose location is kept. */
const KNOWN_SUPER_BLOCKS = 64
/** Super blocks that are decoded concurrently for one read. */
const CONCURRENCY = 4

export interface BlockFile extends BlockMapShape {
  /** Where the stored map is. */
  readonly map: StoredFile
  /** Of all of the file. */
  readonly checksum: Checksum | undefined
  readonly description: string
  /** How super blocks are stored. */
  readonly transforms: readonly Transform[]
  /** Where a super block is. @throws HowdahError `backup_damaged` when it is in no backup of the repository */
  readonly locate: (superBlock: SuperBlock) => Pick<Region, 'root' | 'path'>
}

export interface BlockFiles {
  open(file: BlockFile): ComposedFile
}

/** A part of a read that one super block has. */
interface Piece {
  readonly superBlock: number
  /** In the plain super block, and in the file; bytes. */
  readonly start: number
  readonly offset: number
  readonly length: number
}

const hashing: Promise<IHasher> = createXXHash128()

export function createBlockFiles(spool: Spool): BlockFiles {
  const maps = createBoundedCache<BlockFile, BlockMap>(MAPS_BYTES, ({ bytes }) => bytes)

  const wholeChecks = createWholeChecks()

  async function loadMap(file: BlockFile): Promise<BlockMap> {
    const bytes = await spool.whole(file.map)
    try {
      return readBlockMap(bytes, file)
    } catch (error) {
      if (!(error instanceof MalformedInfo)) throw error
      throw damagedFile(file.description, file.map.region.path, error.message, error)
    }
  }

  return {
    open: (file) =>
      openBlockFile(file, { spool, wholeChecks, loadMap: () => maps.get(file, () => loadMap(file)) }),
  }
}

interface BlockFileDependencies {
  readonly spool: Spool
  readonly wholeChecks: WholeChecks
  readonly loadMap: () => Promise<BlockMap>
}

function openBlockFile(file: BlockFile, dependencies: BlockFileDependencies): ComposedFile {
  const { spool, wholeChecks, loadMap } = dependencies
  const { size, blockSize, checksum } = file
  const whole: CheckedFile | undefined = checksum === undefined ? undefined : { size, checksum }
  const isStoredPlain = file.transforms.length === 0
  const known = new Map<number, StoredFile>()
  /** For decoded super blocks: which of their blocks were verified. */
  const checked = new WeakMap<Buffer, Uint8Array>()

  function storedSuperBlock(map: BlockMap, number: number): StoredFile {
    const before = known.get(number)
    if (before !== undefined) return before
    const superBlock = map.superBlock(number)
    const stored: StoredFile = {
      region: {
        ...file.locate(superBlock),
        offset: superBlock.offset,
        length: superBlock.storedBytes,
        wholeFile: false,
      },
      transforms: file.transforms,
      size: superBlock.plainBytes,
      description: file.description,
    }
    const [oldest] = known.keys()
    if (oldest !== undefined && known.size >= KNOWN_SUPER_BLOCKS) known.delete(oldest)
    known.set(number, stored)
    return stored
  }

  async function readPiece(map: BlockMap, piece: Piece, signal: AbortSignal | undefined): Promise<Buffer> {
    const stored = storedSuperBlock(map, piece.superBlock)
    if (isStoredPlain) return readInPlace(map, piece, stored, signal)
    const plain = await spool.whole(stored)
    signal?.throwIfAborted()
    let right = checked.get(plain)
    if (right === undefined) {
      right = new Uint8Array(Math.ceil(plain.length / blockSize))
      checked.set(plain, right)
    }
    const hasher = await hashing
    const first = Math.floor(piece.offset / blockSize)
    const firstInside = Math.floor(piece.start / blockSize)
    const last = Math.floor((piece.offset + piece.length - 1) / blockSize)
    for (let block = first; block <= last; block++) {
      const inside = firstInside + block - first
      if (right[inside] === 1) continue
      check(hasher, map, block, plain.subarray(inside * blockSize, (inside + 1) * blockSize), stored)
      right[inside] = 1
    }
    return plain.subarray(piece.start, piece.start + piece.length)
  }

  /** Verifies only the blocks that are read as a whole: reading more than requested would cost more. */
  async function readInPlace(
    map: BlockMap,
    piece: Piece,
    stored: StoredFile,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const plain = await spool.read(stored, piece.start, piece.length, signal)
    const hasher = await hashing
    const end = piece.offset + plain.length
    for (let block = Math.ceil(piece.offset / blockSize); ; block++) {
      const blockEnd = Math.min((block + 1) * blockSize, size)
      if (blockEnd > end || block >= map.blocks) return plain
      const contents = plain.subarray(block * blockSize - piece.offset, blockEnd - piece.offset)
      check(hasher, map, block, contents, stored)
    }
  }

  function check(hasher: IHasher, map: BlockMap, block: number, contents: Buffer, stored: StoredFile): void {
    const expected = map.checksum(block)
    const found = hasher.init().update(contents).digest('binary')
    if (expected.equals(found.subarray(0, expected.length))) return
    throw damaged(stored, `block ${block} of ${blockSize} bytes does not match its checksum`)
  }

  async function readBlocks(offset: number, end: number, signal: AbortSignal | undefined): Promise<Buffer> {
    const map = await loadMap()
    signal?.throwIfAborted()
    const pieces = [...piecesOf(map, blockSize, offset, end)]
    if (pieces.length === 1 && pieces[0] !== undefined) return readPiece(map, pieces[0], signal)
    const parts: Buffer[] = []
    for (let first = 0; first < pieces.length; first += CONCURRENCY) {
      const some = pieces.slice(first, first + CONCURRENCY)
      parts.push(...(await Promise.all(some.map((piece) => readPiece(map, piece, signal)))))
    }
    return Buffer.concat(parts)
  }

  return {
    async read(offset, length, signal) {
      const end = Math.min(offset + length, size)
      if (end <= offset) return Buffer.alloc(0)
      const part = await readBlocks(offset, end, signal)
      if (whole === undefined || wholeChecks.take(whole, offset, part)) return part
      throw damagedFile(file.description, file.map.region.path, 'its contents do not match their checksum')
    },
  }
}

function* piecesOf(map: BlockMap, blockSize: number, offset: number, end: number): Generator<Piece> {
  for (let at = offset; at < end; ) {
    const { superBlock, block, count, start } = map.runOf(Math.floor(at / blockSize))
    const begin = block * blockSize
    const length = Math.min(end, begin + count * blockSize) - at
    yield { superBlock, start: start + at - begin, offset: at, length }
    at += length
  }
}
