/**
 * Messages on a mounted FUSE device: requests are read into one buffer, replies are written from a pool of buffers. Knows
 * what the device's errors mean, and nothing of what is in a message. Owns the buffers.
 */
import type { Logger } from 'pino'
import { HowdahError } from '../../../../../messages/errors.ts'
import type { FileSystem } from '../../file-system.ts'
import { Reply } from './reply.ts'
import { Request } from './request.ts'

/** The device, or its substitute in a test. */
export interface Device {
  /** Blocks until there is a message; returns its length. @throws as readSync */
  read(buffer: Buffer): number
  /** @throws as writeSync */
  write(buffer: Buffer, length: number): void
}

/** Buffers of each kind that are kept for later messages. */
const MAX_SPARE = 16
/** The mount is gone, or its connection was aborted. */
const GONE: readonly unknown[] = ['ENODEV', 'ECONNABORTED']

export class DeviceChannel {
  /** The device is gone: nothing can be received or sent any more. */
  ended = false
  /** The message last received; the next one takes its place, unless `keepRequest` took it out. */
  request = new Request()
  readonly #device: Device
  readonly #fileSystem: Pick<FileSystem, 'nearFull'>
  readonly #logger: Logger
  readonly #spareRequests: Request[] = []
  readonly #spareReplies: Reply[] = []

  constructor(device: Device, fileSystem: Pick<FileSystem, 'nearFull'>, logger: Logger) {
    this.#device = device
    this.#fileSystem = fileSystem
    this.#logger = logger
  }

  /**
   * Reads one message into `request`, and blocks until there is one. False when none was received: the device is gone, or
   * the call was interrupted, or the message is incomplete. @throws HowdahError `mount_failed` when the device fails
   */
  receive(): boolean {
    try {
      const length = this.#device.read(this.request.bytes)
      if (this.request.accept(length)) return true
      this.#logger.error({ length }, 'the kernel sent an incomplete message on the FUSE device')
    } catch (error) {
      const code = codeOf(error)
      if (GONE.includes(code)) this.ended = true
      // The request was interrupted before it was read, or a signal arrived.
      else if (code !== 'ENOENT' && code !== 'EINTR') {
        throw new HowdahError('mount_failed', 'the FUSE device cannot be read', { cause: error })
      }
    }
    return false
  }

  /** A buffer for a reply, to be given to `send` or `giveBack`. */
  takeReply(): Reply {
    return this.#spareReplies.pop() ?? new Reply(this.#fileSystem)
  }

  /** Sends the first `length` bytes of a reply. Never throws: a refused reply is logged. */
  send(reply: Reply, length: number): void {
    try {
      this.#device.write(reply.bytes, length)
    } catch (error) {
      const code = codeOf(error)
      if (GONE.includes(code)) this.ended = true
      // ENOENT: the request was aborted.
      else if (code !== 'ENOENT') this.#logger.error({ err: error }, 'the kernel refused a reply')
    }
    this.giveBack(reply)
  }

  /** Gives back a reply that is not sent. */
  giveBack(reply: Reply): void {
    if (this.#spareReplies.length < MAX_SPARE) this.#spareReplies.push(reply)
  }

  /** Takes the request out, whose bytes stay as they are until it is given to `releaseRequest`. */
  keepRequest(): Request {
    const kept = this.request
    this.request = this.#spareRequests.pop() ?? new Request()
    return kept
  }

  releaseRequest(request: Request): void {
    if (this.#spareRequests.length < MAX_SPARE) this.#spareRequests.push(request)
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
