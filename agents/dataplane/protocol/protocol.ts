/**
 * Owns the data plane's protocol: which frames there are, how large each may be, and the layout of their payloads. Must
 * not touch sockets.
 *
 * A frame is `length u32 | request id u32 | type u8 | payload`, integers big endian, `length` that of the payload. The
 * client numbers its requests; answers carry the request's number and come in any order. The first frame of a
 * connection is `hello`; nothing else is accepted before the server's `welcome`. The protocol is Howdah's own.
 */
import { type ErrorBody, HowdahError } from '../../../messages/errors.ts'
import { ErrorSchema } from '../../../messages/primitives.ts'

/**
 * Incremented whenever a frame is added or changes its meaning. A client requires its own version; a server also serves
 * older ones, because mount processes outlive an upgrade of their mount server.
 */
export const PROTOCOL_VERSION = 4
/** The oldest version that a server serves. */
export const OLDEST_VERSION = 3
/** The first version in which a client accepts `damagedBlock`. */
export const DAMAGED_BLOCK_VERSION = 4

/**
 * Of TLS 1.3, by preference: AES-128 is as safe here as AES-256 and takes a third less time; ChaCha20 is for machines
 * without instructions for AES.
 */
const CIPHER_SUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256'
/** Of the contexts of both sides. */
export const TLS_VERSIONS = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3', ciphers: CIPHER_SUITES } as const

/** Bytes of `length`, request id and type. */
export const HEADER_BYTES = 9

/** Most that one `read`, `walRead` or `walReadStored` may ask for. Bytes. */
export const MAX_READ_BYTES = 4 * 1024 * 1024

/** Most ranges that one `readMany` may ask for, and most bytes that they may have together. */
export const MAX_RANGES = 4096
export const MAX_RANGES_BYTES = 64 * 1024 * 1024

/** Most bytes of a range that one `rangeData` may carry. */
export const MAX_PIECE_BYTES = 1024 * 1024

/** Largest payload of a `treeBatch`. Bytes. */
export const MAX_TREE_BATCH_BYTES = 512 * 1024

/** Largest ticket, as the message contract allows. Bytes. */
export const MAX_TICKET_BYTES = 8192

const MAX_ERROR_BYTES = 64 * 1024
const MAX_UINT48 = 2 ** 48 - 1

/** Request id of frames that belong to no request: `hello`, `ping`, and errors that end the connection. */
export const NO_REQUEST = 0

export const FRAME = {
  hello: 1,
  tree: 2,
  /** Lets the server send more of a stream: batches of a tree, bytes of ranges. */
  credit: 3,
  read: 4,
  walSize: 5,
  walRead: 6,
  /** The caller does not need the answer any more. */
  cancel: 7,
  ping: 8,
  readMany: 9,
  walStored: 10,
  walReadStored: 11,
  welcome: 16,
  treeBatch: 17,
  treeEnd: 18,
  data: 19,
  size: 20,
  error: 21,
  pong: 22,
  rangeData: 23,
  rangesEnd: 24,
  stored: 25,
  /** A block whose bytes come in a later frame is damaged. Belongs to no request. */
  damagedBlock: 26,
} as const

export type FrameType = (typeof FRAME)[keyof typeof FRAME]

/** type → largest payload in bytes; a type that is not listed is refused. */
export type PayloadBounds = ReadonlyMap<number, number>

/** Longest name of a WAL file. Bytes. */
export const MAX_WAL_NAME_BYTES = 64

/** Of `stored`: the checksum, where there is one. Bytes. */
export const SHA1_BYTES = 20

/** Of `readMany`: credit and index before the ranges, then file, offset and length of each. Bytes. */
export const RANGES_HEAD_BYTES = 8
export const RANGE_BYTES = 16

/** Of `rangeData`: index and offset before the data. Bytes. */
export const PIECE_HEAD_BYTES = 10

export const CLIENT_FRAMES: PayloadBounds = new Map([
  [FRAME.hello, 2 + MAX_TICKET_BYTES],
  [FRAME.tree, 8],
  [FRAME.credit, 4],
  [FRAME.read, 16],
  [FRAME.walSize, MAX_WAL_NAME_BYTES],
  [FRAME.walRead, 10 + MAX_WAL_NAME_BYTES],
  [FRAME.walStored, MAX_WAL_NAME_BYTES],
  [FRAME.walReadStored, 10 + MAX_WAL_NAME_BYTES],
  [FRAME.cancel, 0],
  [FRAME.ping, 0],
  [FRAME.readMany, RANGES_HEAD_BYTES + MAX_RANGES * RANGE_BYTES],
])

export const SERVER_FRAMES: PayloadBounds = new Map([
  [FRAME.welcome, 2],
  [FRAME.treeBatch, MAX_TREE_BATCH_BYTES],
  [FRAME.treeEnd, 0],
  [FRAME.data, MAX_READ_BYTES],
  [FRAME.size, 6],
  [FRAME.error, MAX_ERROR_BYTES],
  [FRAME.pong, 0],
  [FRAME.rangeData, PIECE_HEAD_BYTES + MAX_PIECE_BYTES],
  [FRAME.rangesEnd, 0],
  [FRAME.stored, 7 + SHA1_BYTES],
  [FRAME.damagedBlock, 12],
])

/** The header of a frame whose payload is written separately. */
export function encodeHeader(type: FrameType, id: number, payloadBytes: number): Buffer {
  return frame(type, id, payloadBytes, 0)
}

export function encodeHello(ticket: string, version = PROTOCOL_VERSION): Buffer {
  const bytes = Buffer.byteLength(ticket)
  const buffer = frame(FRAME.hello, NO_REQUEST, 2 + bytes)
  buffer.writeUInt16BE(version, HEADER_BYTES)
  buffer.write(ticket, HEADER_BYTES + 2)
  return buffer
}

export function decodeHello(payload: Buffer): { version: number; ticket: string } {
  if (payload.length < 2) throw malformed('hello')
  return { version: payload.readUInt16BE(0), ticket: payload.toString('utf8', 2) }
}

export function encodeDamagedBlock(file: number, block: number): Buffer {
  const buffer = frame(FRAME.damagedBlock, NO_REQUEST, 12)
  buffer.writeUIntBE(file, HEADER_BYTES, 6)
  buffer.writeUIntBE(block, HEADER_BYTES + 6, 6)
  return buffer
}

export function decodeDamagedBlock(payload: Buffer): { file: number; block: number } {
  if (payload.length !== 12) throw malformed('damagedBlock')
  return { file: payload.readUIntBE(0, 6), block: payload.readUIntBE(6, 6) }
}

/** `version`: the client's, which the connection uses from then on. */
export function encodeWelcome(version: number): Buffer {
  const buffer = frame(FRAME.welcome, NO_REQUEST, 2)
  buffer.writeUInt16BE(version, HEADER_BYTES)
  return buffer
}

export function decodeWelcome(payload: Buffer): number {
  if (payload.length !== 2) throw malformed('welcome')
  return payload.readUInt16BE(0)
}

/** `skip` entries are left out at the start (they arrived before a disconnect); `credit` batches may be sent. */
export function encodeTree(id: number, skip: number, credit: number): Buffer {
  const buffer = frame(FRAME.tree, id, 8)
  buffer.writeUInt32BE(skip, HEADER_BYTES)
  buffer.writeUInt32BE(credit, HEADER_BYTES + 4)
  return buffer
}

export function decodeTree(payload: Buffer): { skip: number; credit: number } {
  if (payload.length !== 8) throw malformed('tree')
  return { skip: payload.readUInt32BE(0), credit: payload.readUInt32BE(4) }
}

export function encodeCredit(id: number, credit: number): Buffer {
  const buffer = frame(FRAME.credit, id, 4)
  buffer.writeUInt32BE(credit, HEADER_BYTES)
  return buffer
}

export function decodeCredit(payload: Buffer): number {
  if (payload.length !== 4) throw malformed('credit')
  return payload.readUInt32BE(0)
}

export function encodeError(id: number, error: ErrorBody): Buffer {
  let json = JSON.stringify(error)
  if (Buffer.byteLength(json) > MAX_ERROR_BYTES) {
    const { code, message, retryable } = error
    json = JSON.stringify({ code, message: message.slice(0, 4096), retryable })
  }
  const buffer = frame(FRAME.error, id, Buffer.byteLength(json))
  buffer.write(json, HEADER_BYTES)
  return buffer
}

export function decodeError(payload: Buffer): HowdahError {
  let json: unknown
  try {
    json = JSON.parse(payload.toString('utf8'))
  } catch (error) {
    throw malformed('error', error)
  }
  const body = ErrorSchema.safeParse(json)
  if (!body.success) throw malformed('error', body.error)
  return HowdahError.of(body.data)
}

/** A frame without payload. */
export function encodeEmpty(type: FrameType, id: number): Buffer {
  return frame(type, id, 0)
}

/** A peer violated the protocol; the connection cannot continue. */
export function malformed(what: string, cause?: unknown): HowdahError {
  return new HowdahError('invalid_message', `The data plane's peer sent a malformed ${what} frame.`, {
    cause,
  })
}

export function frame(type: FrameType, id: number, payloadBytes: number, room = payloadBytes): Buffer {
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + room)
  buffer.writeUInt32BE(payloadBytes, 0)
  buffer.writeUInt32BE(id, 4)
  buffer[8] = type
  return buffer
}

export function isUint48(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= MAX_UINT48
}

export function outOfRange(what: string): HowdahError {
  return new HowdahError(
    'invalid_message',
    `A read of ${what} is outside of what the data plane can address.`,
  )
}

export function tooLong(length: number, limit: number): HowdahError {
  return new HowdahError(
    'message_too_large',
    `The data plane's peer requested ${length} bytes at once; ${limit} is the limit.`,
  )
}
