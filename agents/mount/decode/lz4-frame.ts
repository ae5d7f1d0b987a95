/**
 * LZ4 frames (lz4_Frame_format.md, version 1.6): splits a frame into its blocks, so that files of any size decode in
 * bounded memory; the blocks themselves are decoded by lz4-napi. Linked blocks are decoded with the 64 KiB before them
 * as dictionary. Checksums of frame and blocks are skipped, not verified: the repositories have stronger ones.
 */
import { Transform, type TransformCallback } from 'node:stream'
import { uncompressSync } from 'lz4-napi'

const MAGIC = 0x184d2204
const SKIPPABLE_MAGIC = 0x184d2a50
const WINDOW_BYTES = 64 * 1024
const BLOCK_BYTES = [0, 0, 0, 0, 64 * 1024, 256 * 1024, 1024 * 1024, 4 * 1024 * 1024]

interface Frame {
  readonly linked: boolean
  readonly blockChecksum: boolean
  readonly contentChecksum: boolean
  readonly maxBlockBytes: number
}

/** Consumes frames in pieces of any length and yields plain blocks. */
class FrameReader {
  #pending: Buffer = Buffer.alloc(0)
  #frame: Frame | undefined
  #window: Buffer = Buffer.alloc(0)
  #frames = 0
  #skip = 0

  end(): void {
    if (this.#frame !== undefined || this.#pending.length > 0 || this.#skip > 0) {
      throw new Error('the lz4 frame ends too early')
    }
    if (this.#frames === 0) throw new Error('there is no lz4 frame')
  }

  *push(chunk: Buffer): Generator<Buffer> {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    let position = 0
    for (;;) {
      const rest = this.#pending.subarray(position)
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, rest.length)
        this.#skip -= skipped
        position += skipped
        if (this.#skip > 0) break
        continue
      }
      const step = this.#frame === undefined ? this.#header(rest) : this.#block(rest, this.#frame)
      if (step === undefined) break
      position += step.taken
      if (step.plain !== undefined) yield step.plain
    }
    this.#pending = this.#pending.subarray(position)
  }

  #header(rest: Buffer): { taken: number; plain?: Buffer } | undefined {
    if (rest.length < 7) return undefined
    const magic = rest.readUInt32LE(0)
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) {
      if (rest.length < 8) return undefined
      this.#skip = rest.readUInt32LE(4)
      return { taken: 8 }
    }
    if (magic !== MAGIC) throw new Error('this is not an lz4 frame')
    const flags = rest.readUInt8(4)
    if (flags >> 6 !== 1) throw new Error(`lz4 frame version ${flags >> 6} is not known`)
    if ((flags & 0x01) !== 0) throw new Error('lz4 frames with a dictionary are not supported')
    const maxBlockBytes = BLOCK_BYTES[(rest.readUInt8(5) >> 4) & 0x07] ?? 0
    if (maxBlockBytes === 0) throw new Error('the lz4 frame has no valid block size')
    const taken = 4 + 2 + ((flags & 0x08) !== 0 ? 8 : 0) + 1
    if (rest.length < taken) return undefined
    this.#frame = {
      linked: (flags & 0x20) === 0,
      blockChecksum: (flags & 0x10) !== 0,
      contentChecksum: (flags & 0x04) !== 0,
      maxBlockBytes,
    }
    this.#window = Buffer.alloc(0)
    return { taken }
  }

  #block(rest: Buffer, frame: Frame): { taken: number; plain?: Buffer } | undefined {
    if (rest.length < 4) return undefined
    const word = rest.readUInt32LE(0)
    if (word === 0) {
      const taken = 4 + (frame.contentChecksum ? 4 : 0)
      if (rest.length < taken) return undefined
      this.#frame = undefined
      this.#frames += 1
      return { taken }
    }
    const bytes = word & 0x7fffffff
    if (bytes > frame.maxBlockBytes) throw new Error('an lz4 block is larger than its frame allows')
    const taken = 4 + bytes + (frame.blockChecksum ? 4 : 0)
    if (rest.length < taken) return undefined
    const stored = rest.subarray(4, 4 + bytes)
    const plain = word >>> 31 === 1 ? Buffer.from(stored) : this.#decode(stored, frame)
    if (frame.linked) this.#remember(plain)
    return { taken, plain }
  }

  #decode(stored: Buffer, frame: Frame): Buffer {
    // lz4-napi expects the plain size before the block; an upper limit suffices.
    const sized = Buffer.allocUnsafe(4 + stored.length)
    sized.writeUInt32LE(frame.maxBlockBytes, 0)
    stored.copy(sized, 4)
    return this.#window.length > 0 ? uncompressSync(sized, this.#window) : uncompressSync(sized)
  }

  #remember(plain: Buffer): void {
    this.#window =
      plain.length >= WINDOW_BYTES
        ? plain.subarray(plain.length - WINDOW_BYTES)
        : Buffer.concat([this.#window, plain]).subarray(-WINDOW_BYTES)
  }
}

/** A stream of plain bytes from a stream of lz4 frames. */
export function createLz4FrameDecoder(): Transform {
  const reader = new FrameReader()
  return new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
      try {
        for (const plain of reader.push(chunk)) this.push(plain)
        done()
      } catch (error) {
        done(error as Error)
      }
    },
    flush(done: TransformCallback) {
      try {
        reader.end()
        done()
      } catch (error) {
        done(error as Error)
      }
    },
  })
}

/** Decodes whole frames. @throws Error when they are damaged or give more than `maxBytes` */
export function decodeLz4Frames(stored: Buffer, maxBytes: number): Buffer {
  const reader = new FrameReader()
  const blocks: Buffer[] = []
  let bytes = 0
  for (const plain of reader.push(stored)) {
    bytes += plain.length
    if (bytes > maxBytes) throw new Error(`it is longer than ${maxBytes} bytes`)
    blocks.push(plain)
  }
  reader.end()
  return blocks.length === 1 && blocks[0] !== undefined ? blocks[0] : Buffer.concat(blocks)
}
