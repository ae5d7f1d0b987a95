/**
 * Owns frames on a socket: cutting what arrives into frames, and sending frames in as few writes as possible. Knows the
 * lengths and bounds of frames, not what they mean.
 */
import type { Writable } from 'node:stream'
import { HowdahError } from '../../../messages/errors.ts'
import { freeBuffer } from './freed-buffers.ts'
import { HEADER_BYTES, type PayloadBounds } from './protocol.ts'

/** Receives one frame. The payload belongs to the receiver. */
export type FrameHandler = (type: number, id: number, payload: Buffer) => void

const EMPTY = Buffer.alloc(0)

/** Cuts a byte stream into frames. Every payload is copied, once, into a buffer of its own; chunks may be reused. */
export class FrameParser {
  readonly #bounds: PayloadBounds
  readonly #handle: FrameHandler
  readonly #header = Buffer.alloc(HEADER_BYTES)
  #headerFilled = 0
  #type = 0
  #id = 0
  #payload: Buffer | undefined
  #filled = 0

  constructor(bounds: PayloadBounds, handle: FrameHandler) {
    this.#bounds = bounds
    this.#handle = handle
  }

  /** @throws HowdahError `invalid_message` | `message_too_large` on an unknown type or a payload over its bound; errors of the handler are passed on. */
  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#payload !== undefined) {
        const end = Math.min(chunk.length, at + this.#payload.length - this.#filled)
        chunk.copy(this.#payload, this.#filled, at, end)
        this.#filled += end - at
        at = end
        if (this.#filled < this.#payload.length) return
        const payload = this.#payload
        this.#payload = undefined
        this.#handle(this.#type, this.#id, payload)
        continue
      }
      const length = this.#headerAt(chunk, at)
      if (length === undefined) return
      at += this.#headerTaken
      if (length === 0) {
        this.#handle(this.#type, this.#id, EMPTY)
      } else {
        this.#payload = Buffer.allocUnsafe(length)
        this.#filled = 0
      }
    }
  }

  #headerTaken = 0

  /** Reads the header at `at` and returns the payload's length, or undefined when the chunk ends before the header does. */
  #headerAt(chunk: Buffer, at: number): number | undefined {
    let header = chunk
    let start = at
    if (this.#headerFilled > 0 || chunk.length - at < HEADER_BYTES) {
      const end = Math.min(chunk.length, at + HEADER_BYTES - this.#headerFilled)
      chunk.copy(this.#header, this.#headerFilled, at, end)
      this.#headerFilled += end - at
      if (this.#headerFilled < HEADER_BYTES) return undefined
      this.#headerFilled = 0
      this.#headerTaken = end - at
      header = this.#header
      start = 0
    } else {
      this.#headerTaken = HEADER_BYTES
    }
    const length = header.readUInt32BE(start)
    this.#id = header.readUInt32BE(start + 4)
    this.#type = header[start + 8] ?? 0
    const limit = this.#bounds.get(this.#type)
    if (limit === undefined) {
      throw new HowdahError(
        'invalid_message',
        `The data plane's peer sent a frame of unknown type ${this.#type}.`,
      )
    }
    if (length > limit) {
      throw new HowdahError(
        'message_too_large',
        `The data plane's peer sent a frame of type ${this.#type} with ${length} bytes; ${limit} is the limit.`,
      )
    }
    return length
  }
}

/** Small frames are joined to batches of about this size; a larger payload is written on its own, without a copy. */
const BATCH_BYTES = 128 * 1024

/**
 * Sends frames. There is one write at a time, and what is sent meanwhile goes out with the next one: a single frame
 * leaves at once, many share a TLS record. A peer that does not read makes `pendingBytes` grow and nothing else.
 */
export class FrameWriter {
  readonly #socket: Writable
  readonly #progress: () => void
  #queue: Buffer[] = []
  #pending = 0
  #writing = 0
  #scheduled = false
  /** Large payloads that the writer owns. */
  readonly #owned = new WeakSet<Buffer>()
  /** The one of them that is being written. */
  #writingOwned: Buffer | undefined

  /** `progress` is called when the socket has accepted a write. */
  constructor(socket: Writable, progress: () => void = () => {}) {
    this.#socket = socket
    this.#progress = progress
  }

  /** Bytes that were sent and that the socket has not accepted yet. */
  get pendingBytes(): number {
    return this.#pending
  }

  /**
   * Sends a frame: one buffer, or header and payload, which must not be changed afterwards.
   * @param owned passes ownership of the payload, whose memory is freed once it was written
   */
  send(head: Buffer, payload?: Buffer, owned = false): void {
    this.#queue.push(head)
    this.#pending += head.length
    if (payload !== undefined && payload.length > 0) {
      this.#queue.push(payload)
      this.#pending += payload.length
      if (owned) this.#owned.add(payload)
    }
    if (this.#writing > 0 || this.#scheduled) return
    this.#scheduled = true
    process.nextTick(this.#flush)
  }

  readonly #flush = (): void => {
    this.#scheduled = false
    if (this.#writing > 0 || this.#queue.length === 0 || this.#socket.destroyed) return
    const batch = this.#takeBatch()
    // A large payload goes with the batch that ends in its header, so that the header is not sent alone.
    const large = (this.#queue[0]?.length ?? 0) > BATCH_BYTES ? this.#queue.shift() : undefined
    this.#writing = batch.length + (large?.length ?? 0)
    this.#writingOwned = large !== undefined && this.#owned.has(large) ? large : undefined
    if (large === undefined) {
      this.#socket.write(batch, this.#written)
    } else {
      this.#socket.write(batch)
      this.#socket.write(large, this.#written)
    }
  }

  readonly #written = (): void => {
    this.#pending -= this.#writing
    this.#writing = 0
    if (this.#writingOwned !== undefined) freeBuffer(this.#writingOwned)
    this.#writingOwned = undefined
    this.#flush()
    this.#progress()
  }

  #takeBatch(): Buffer {
    let bytes = 0
    let count = 0
    for (const buffer of this.#queue) {
      if (count > 0 && bytes + buffer.length > BATCH_BYTES) break
      bytes += buffer.length
      count += 1
    }
    if (count === 1) return this.#queue.shift() ?? EMPTY
    return Buffer.concat(this.#queue.splice(0, count), bytes)
  }
}
