/**
 * The map of a block incremental file: which block of it is in which super block of which backup
 * (src/command/backup/blockMap.c of pgBackRest 2.46 to 2.60). Parses the map only; block-file.ts reads the blocks.
 *
 * Blocks that follow each other in a super block are kept as one run, in columns of numbers: a map of a million blocks
 * takes a few megabytes.
 */
import { MalformedInfo } from './ini.ts'

/** pgBackRest keeps a super block in memory, and by default makes none larger than a few MiB. Bytes. */
const MAX_SUPER_BLOCK_BYTES = 64 * 1024 * 1024
/** What compression and encryption may add to a super block. Bytes. */
const MAX_OVERHEAD_BYTES = 1024 * 1024

const LAST = 1
const BUNDLE = 2
const OFFSET = 4
const CONTINUE = 2
const CONTINUE_LAST = 4
const SIZE_CHANGE = 2
const TOTAL = 4

export interface BlockMapShape {
  /** Bytes of the file. */
  readonly size: number
  /** Bytes of each block but the last. */
  readonly blockSize: number
  /** Bytes of each block's checksum. */
  readonly checksumSize: number
}

export interface SuperBlock {
  /** Index into the manifest's list of backups. */
  readonly reference: number
  /** 0: in the file's own `.pgbi` file. */
  readonly bundle: number
  /** Of its stored bytes. */
  readonly offset: number
  readonly storedBytes: number
  readonly plainBytes: number
}

/** Blocks that follow each other in the file and in a super block alike. */
export interface BlockRun {
  /** Number of the super block. */
  readonly superBlock: number
  /** Number of its first block in the file. */
  readonly block: number
  readonly count: number
  /** Where it begins in the plain super block, bytes. */
  readonly start: number
}

export interface BlockMap {
  readonly blocks: number
  /** What it takes in memory, the map's own bytes included. */
  readonly bytes: number
  /** The run that a block is in. */
  runOf(block: number): BlockRun
  superBlock(number: number): SuperBlock
  /** First bytes of the XXH3-128 (canonical form) of a block's contents. */
  checksum(block: number): Buffer
}

/** The state of parsing for one backup that the map refers to. */
interface Reference {
  superBlockSize: number
  readonly bundle: number
  offset: number
  size: number
  /** Next block of the super block. */
  block: number
  superBlock: number
}

/**
 * @param bytes is kept
 * @throws MalformedInfo
 */
export function readBlockMap(bytes: Buffer, shape: BlockMapShape): BlockMap {
  const { size, blockSize, checksumSize } = shape
  const blocks = Math.ceil(size / blockSize)
  if (blocks * checksumSize > bytes.length) throw new MalformedInfo('its block map is too short for its size')
  const columns = new Columns(blocks)
  const input = new VarInts(bytes)
  const references = new Map<number, Reference>()
  let block = 0
  let lastSize = 0

  function addRun(superBlock: number, first: number, count: number): void {
    if (count > blocks - block) throw new MalformedInfo('its block map has more blocks than the file')
    const start = first * blockSize
    const end = start + runBytes(shape, block, count)
    const plain = columns.plainBytes(superBlock)
    // Only the last block of a super block may be shorter than the others: the last one of a file.
    const whole = end % blockSize === 0 ? end <= plain : end === plain
    if (!whole) throw new MalformedInfo(`its block map puts block ${block} where its super block has none`)
    columns.addRun(superBlock, block, first, input.take(count * checksumSize))
    block += count
  }

  if ((input.next() & 1) !== 0) throw new MalformedInfo('its block map has a version that is not known')
  for (let encoded = 0; (encoded & LAST) === 0; ) {
    encoded = input.next()
    const index = Math.floor(encoded / 8)
    let reference = references.get(index)
    let offset: number
    let continued = false
    if (reference === undefined) {
      const bundle = (encoded & BUNDLE) !== 0 ? input.next() : 0
      offset = (encoded & OFFSET) !== 0 ? input.next() : 0
      reference = { superBlockSize: blockSize, bundle, offset, size: 0, block: 0, superBlock: -1 }
      references.set(index, reference)
    } else if ((encoded & CONTINUE) !== 0) {
      offset = reference.offset
      continued = true
    } else {
      offset = reference.offset + reference.size + ((encoded & OFFSET) !== 0 ? input.next() : 0)
    }

    for (let entry = 0; (entry & LAST) === 0; ) {
      if (continued) {
        entry = TOTAL | ((encoded & CONTINUE_LAST) !== 0 ? LAST : 0)
        continued = false
        if (reference.superBlock < 0) throw new MalformedInfo('its block map continues what did not begin')
      } else {
        entry = input.next()
        const given = Math.floor(entry / 8)
        reference.size = lastSize === 0 ? given : lastSize + fromZigZag(given)
        if ((entry & SIZE_CHANGE) !== 0) {
          const changed = input.next()
          reference.superBlockSize = Math.floor(changed / 2) * blockSize + (changed & 1 ? input.next() : 0)
        }
        reference.offset = offset
        reference.block = 0
        reference.superBlock = columns.addSuperBlock({
          reference: index,
          bundle: reference.bundle,
          offset,
          storedBytes: reference.size,
          plainBytes: reference.superBlockSize,
        })
      }
      lastSize = reference.size
      let count = Math.ceil(reference.superBlockSize / blockSize)
      if ((entry & TOTAL) !== 0) {
        const total = input.next()
        count = Math.floor(total / 2) + 1
        if ((total & 1) !== 0) reference.block += input.next()
      }
      addRun(reference.superBlock, reference.block, count)
      reference.block += count
      offset += reference.size
    }
  }
  if (block !== blocks) throw new MalformedInfo(`its block map has ${block} blocks instead of ${blocks}`)
  if (!input.ended) throw new MalformedInfo('its block map continues after its end')
  return columns.finish(bytes, shape)
}

/** Bytes of `count` blocks of a file. */
function runBytes({ size, blockSize }: BlockMapShape, block: number, count: number): number {
  return Math.min((block + count) * blockSize, size) - block * blockSize
}

const fromZigZag = (value: number): number => (value % 2 === 0 ? value / 2 : -(value + 1) / 2)

/** Collects runs and super blocks while parsing; there are at most as many of each as blocks. */
class Columns {
  #runs = 0
  #superBlocks = 0
  readonly #runBlock: Uint32Array
  readonly #runSuper: Uint32Array
  readonly #runFirst: Uint32Array
  readonly #runChecksum: Uint32Array
  readonly #reference: Uint32Array
  readonly #bundle: Float64Array
  readonly #offset: Float64Array
  readonly #stored: Uint32Array
  readonly #plain: Uint32Array

  constructor(blocks: number) {
    this.#runBlock = new Uint32Array(blocks)
    this.#runSuper = new Uint32Array(blocks)
    this.#runFirst = new Uint32Array(blocks)
    this.#runChecksum = new Uint32Array(blocks)
    this.#reference = new Uint32Array(blocks)
    this.#bundle = new Float64Array(blocks)
    this.#offset = new Float64Array(blocks)
    this.#stored = new Uint32Array(blocks)
    this.#plain = new Uint32Array(blocks)
  }

  addSuperBlock({ reference, bundle, offset, storedBytes, plainBytes }: SuperBlock): number {
    const number = this.#superBlocks
    if (number >= this.#reference.length)
      throw new MalformedInfo('its block map has more blocks than the file')
    if (
      plainBytes < 1 ||
      plainBytes > MAX_SUPER_BLOCK_BYTES ||
      storedBytes < 1 ||
      storedBytes > MAX_SUPER_BLOCK_BYTES + MAX_OVERHEAD_BYTES ||
      !Number.isSafeInteger(offset + storedBytes) ||
      reference >= 2 ** 32
    ) {
      throw new MalformedInfo('its block map has a super block of no valid size or place')
    }
    this.#reference[number] = reference
    this.#bundle[number] = bundle
    this.#offset[number] = offset
    this.#stored[number] = storedBytes
    this.#plain[number] = plainBytes
    this.#superBlocks += 1
    return number
  }

  plainBytes(superBlock: number): number {
    return this.#plain[superBlock] ?? 0
  }

  addRun(superBlock: number, block: number, first: number, checksum: number): void {
    this.#runBlock[this.#runs] = block
    this.#runSuper[this.#runs] = superBlock
    this.#runFirst[this.#runs] = first
    this.#runChecksum[this.#runs] = checksum
    this.#runs += 1
  }

  finish(map: Buffer, { blockSize, size, checksumSize }: BlockMapShape): BlockMap {
    const blocks = Math.ceil(size / blockSize)
    const runBlock = this.#runBlock.slice(0, this.#runs)
    const runSuper = this.#runSuper.slice(0, this.#runs)
    const runFirst = this.#runFirst.slice(0, this.#runs)
    const runChecksum = this.#runChecksum.slice(0, this.#runs)
    const reference = this.#reference.slice(0, this.#superBlocks)
    const bundle = this.#bundle.slice(0, this.#superBlocks)
    const offset = this.#offset.slice(0, this.#superBlocks)
    const stored = this.#stored.slice(0, this.#superBlocks)
    const plain = this.#plain.slice(0, this.#superBlocks)

    function indexOf(block: number): number {
      let low = 0
      let high = runBlock.length
      while (high - low > 1) {
        const middle = (low + high) >> 1
        if ((runBlock[middle] ?? 0) <= block) low = middle
        else high = middle
      }
      return low
    }

    return {
      blocks,
      bytes: map.length + runBlock.length * 16 + reference.length * 28,
      runOf(block) {
        const run = indexOf(block)
        const begin = runBlock[run] ?? 0
        return {
          superBlock: runSuper[run] ?? 0,
          block: begin,
          count: (runBlock[run + 1] ?? blocks) - begin,
          start: (runFirst[run] ?? 0) * blockSize,
        }
      },
      superBlock: (number) => ({
        reference: reference[number] ?? 0,
        bundle: bundle[number] ?? 0,
        offset: offset[number] ?? 0,
        storedBytes: stored[number] ?? 0,
        plainBytes: plain[number] ?? 0,
      }),
      checksum(block) {
        const run = indexOf(block)
        const at = (runChecksum[run] ?? 0) + (block - (runBlock[run] ?? 0)) * checksumSize
        return map.subarray(at, at + checksumSize)
      },
    }
  }
}

/** Numbers of seven bits to a byte, the lowest first (src/common/type/convert.c, cvtUInt64ToVarInt128). */
class VarInts {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get ended(): boolean {
    return this.#at === this.#bytes.length
  }

  next(): number {
    let value = 0
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) throw new MalformedInfo('its block map ends too early')
      value += (byte & 127) * factor
      if (!Number.isSafeInteger(value))
        throw new MalformedInfo('its block map has a number that is too large')
      if (byte < 128) return value
      if (factor > 2 ** 49) throw new MalformedInfo('its block map has a number that is too large')
    }
  }

  /** Skips bytes. @returns where they begin */
  take(count: number): number {
    const from = this.#at
    if (count > this.#bytes.length - from) throw new MalformedInfo('its block map ends too early')
    this.#at += count
    return from
  }
}
