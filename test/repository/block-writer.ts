/**
 * Writes block incremental files the way pgBackRest does (src/command/backup/{blockIncr,blockMap}.c), for repositories
 * of any compression and encryption. What the reader makes of pgBackRest's own is tried on the fixtures.
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto'
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { createXXHash128 } from 'hash-wasm'
import { compressFrameSync } from 'lz4-napi'

export const BLOCK_CHECKSUM_BYTES = 6

const hasher = await createXXHash128()

export type BlockCompression = 'none' | 'gz' | 'zst' | 'lz4'

/** `raw`: the form in bundles and super blocks. */
export function compress(compression: BlockCompression, plain: Buffer, raw: boolean): Buffer {
  if (compression === 'gz') return raw ? deflateSync(plain, { level: 1 }) : gzipSync(plain, { level: 1 })
  if (compression === 'zst') return zstdCompressSync(plain)
  return compression === 'lz4' ? compressFrameSync(plain) : plain
}

export function encrypt(passphrase: string | undefined, plain: Buffer, raw: boolean): Buffer {
  if (passphrase === undefined) return plain
  const salt = randomBytes(8)
  let derived = Buffer.alloc(0)
  let digest = Buffer.alloc(0)
  while (derived.length < 48) {
    digest = createHash('sha1')
      .update(Buffer.concat([digest, Buffer.from(passphrase), salt]))
      .digest()
    derived = Buffer.concat([derived, digest])
  }
  const cipher = createCipheriv('aes-256-cbc', derived.subarray(0, 32), derived.subarray(32, 48))
  return Buffer.concat([raw ? '' : 'Salted__', salt, cipher.update(plain), cipher.final()].map(bytesOf))
}

const bytesOf = (piece: string | Buffer) => (typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)

/** Where one block of a file is. */
export interface PlacedBlock {
  readonly reference: number
  readonly bundle: number
  readonly offset: number
  readonly storedBytes: number
  readonly plainBytes: number
  /** Number of the block in its super block. */
  readonly inside: number
  readonly checksum: Buffer
}

export interface BlockWriting {
  readonly blockSize: number
  readonly superBlockSize: number
  /** Of the backup that is written, in the manifest's list. */
  readonly reference: number
  readonly bundle: number
  /** Where the file begins in the bundle. */
  readonly offset: number
  readonly encode: (superBlock: Buffer) => Buffer
}

/** The stored super blocks of a version of a file, and where all its blocks are now. */
export function writeBlocks(
  plain: Buffer,
  prior: readonly PlacedBlock[],
  writing: BlockWriting,
): { readonly stored: Buffer; readonly placed: readonly PlacedBlock[] } {
  const { blockSize, superBlockSize, reference, bundle, encode } = writing
  const placed: PlacedBlock[] = []
  const stored: Buffer[] = []
  let offset = writing.offset
  let pending: { block: number; contents: Buffer; checksum: Buffer }[] = []

  function flush(): void {
    if (pending.length === 0) return
    const superBlock = Buffer.concat(pending.map(({ contents }) => contents))
    const bytes = encode(superBlock)
    for (const [inside, { block, checksum }] of pending.entries()) {
      placed[block] = {
        ...{ reference, bundle, offset, storedBytes: bytes.length, plainBytes: superBlock.length, inside },
        checksum,
      }
    }
    stored.push(bytes)
    offset += bytes.length
    pending = []
  }

  for (let block = 0; block * blockSize < plain.length; block++) {
    const contents = plain.subarray(block * blockSize, (block + 1) * blockSize)
    const checksum = Buffer.from(
      hasher.init().update(contents).digest('binary').subarray(0, BLOCK_CHECKSUM_BYTES),
    )
    const before = prior[block]
    if (before?.checksum.equals(checksum)) placed[block] = before
    else {
      pending.push({ block, contents, checksum })
      if (pending.length * blockSize >= superBlockSize) flush()
    }
  }
  flush()
  return { stored: Buffer.concat(stored), placed }
}

/** The map of the blocks, as blockMapWrite of blockMap.c writes it. */
export function writeMap(placed: readonly PlacedBlock[], blockSize: number): Buffer {
  const output = new Output()
  output.varint(0)
  const known = new Map<number, { offset: number; size: number; superBlockSize: number; block: number }>()
  const groups = runs(placed, (a, b) => a.reference === b.reference)
  let sizeLast = 0
  for (const [index, group] of groups.entries()) {
    const [first] = group
    if (first === undefined) continue
    let encoded = index === groups.length - 1 ? 1 : 0
    let data = known.get(first.reference)
    let isContinued = false
    if (data === undefined) {
      encoded |= (first.bundle > 0 ? 2 : 0) | (first.offset > 0 ? 4 : 0)
      output.varint(encoded + first.reference * 8)
      if (first.bundle > 0) output.varint(first.bundle)
      if (first.offset > 0) output.varint(first.offset)
      data = { offset: first.offset, size: 0, superBlockSize: blockSize, block: 0 }
      known.set(first.reference, data)
    } else if (first.offset === data.offset) {
      encoded |= 2
      isContinued = true
    } else {
      const gap = first.offset - (data.offset + data.size)
      if (gap > 0) encoded |= 4
      output.varint(encoded + first.reference * 8)
      if (gap > 0) output.varint(gap)
    }
    const superBlocks = runs(group, (a, b) => a.offset === b.offset)
    for (const [number, blocks] of superBlocks.entries()) {
      const [block] = blocks
      if (block === undefined) continue
      const isLast = number === superBlocks.length - 1
      const expected = isContinued ? data.block : 0
      const isPart =
        isContinued || block.inside !== 0 || blocks.length !== Math.ceil(block.plainBytes / blockSize)
      if (isContinued) {
        output.varint((encoded | (isLast ? 4 : 0)) + first.reference * 8)
        isContinued = false
      } else {
        const isChanged = block.plainBytes !== data.superBlockSize
        const size = sizeLast === 0 ? block.storedBytes : zigzag(block.storedBytes - sizeLast)
        output.varint((isLast ? 1 : 0) + (isChanged ? 2 : 0) + (isPart ? 4 : 0) + size * 8)
        if (isChanged) {
          const rest = block.plainBytes % blockSize
          output.varint(Math.floor(block.plainBytes / blockSize) * 2 + (rest === 0 ? 0 : 1))
          if (rest !== 0) output.varint(rest)
          data.superBlockSize = block.plainBytes
        }
        data.offset = block.offset
        data.size = block.storedBytes
      }
      sizeLast = block.storedBytes
      if (isPart) {
        const skipped = block.inside - expected
        output.varint((blocks.length - 1) * 2 + (skipped > 0 ? 1 : 0))
        if (skipped > 0) output.varint(skipped)
      }
      data.block = block.inside + blocks.length
      for (const { checksum } of blocks) output.bytes(checksum)
    }
  }
  return output.finish()
}

/** In groups of neighbours that are alike. */
function runs<T>(items: readonly T[], alike: (a: T, b: T) => boolean): T[][] {
  const groups: T[][] = []
  for (const item of items) {
    const group = groups.at(-1)
    const last = group?.at(-1)
    if (group !== undefined && last !== undefined && alike(last, item)) group.push(item)
    else groups.push([item])
  }
  return groups
}

const zigzag = (value: number) => (value >= 0 ? value * 2 : -value * 2 - 1)

class Output {
  #buffer = Buffer.allocUnsafe(64 * 1024)
  #used = 0

  varint(value: number): void {
    this.#reserve(8)
    let rest = value
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#buffer[this.#used++] = (rest % 128) + 128
    this.#buffer[this.#used++] = rest
  }

  bytes(piece: Buffer): void {
    this.#reserve(piece.length)
    this.#used += piece.copy(this.#buffer, this.#used)
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#used)
  }

  #reserve(bytes: number): void {
    if (this.#used + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(this.#buffer.length * 2)
    this.#buffer.copy(larger)
    this.#buffer = larger
  }
}
