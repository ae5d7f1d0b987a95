/** Owns the payloads of requests for bytes of one file, of the backup or of WAL, and of their answers. */
import type { FileRange, StoredWal } from '../backup-source.ts'
import {
  FRAME,
  frame,
  HEADER_BYTES,
  isUint48,
  MAX_READ_BYTES,
  MAX_WAL_NAME_BYTES,
  malformed,
  outOfRange,
  SHA1_BYTES,
  tooLong,
} from './protocol.ts'

/** How `stored` encodes a compression: by its index. */
const COMPRESSIONS: readonly StoredWal['compression'][] = ['gz', 'zst']
/** Segments (also `.partial`), timeline histories and backup labels: the names that a PostgreSQL archive holds. */
const WAL_NAME = /^[0-9A-F]{8}(?:[0-9A-F]{16}(?:\.partial|\.[0-9A-F]{8}\.backup)?|\.history)$/

export function isWalName(name: string): boolean {
  return name.length <= MAX_WAL_NAME_BYTES && WAL_NAME.test(name)
}

export function encodeRead(id: number, file: number, offset: number, length: number): Buffer {
  if (!isUint48(file) || !isUint48(offset)) throw outOfRange(`file ${file} at ${offset}`)
  const buffer = frame(FRAME.read, id, 16)
  buffer.writeUIntBE(file, HEADER_BYTES, 6)
  buffer.writeUIntBE(offset, HEADER_BYTES + 6, 6)
  buffer.writeUInt32BE(length, HEADER_BYTES + 12)
  return buffer
}

export function decodeRead(payload: Buffer): FileRange {
  if (payload.length !== 16) throw malformed('read')
  const length = payload.readUInt32BE(12)
  if (length > MAX_READ_BYTES) throw tooLong(length, MAX_READ_BYTES)
  return { file: payload.readUIntBE(0, 6), offset: payload.readUIntBE(6, 6), length }
}

/** `walSize` or `walStored`. */
export function encodeWalName(
  type: typeof FRAME.walSize | typeof FRAME.walStored,
  id: number,
  name: string,
): Buffer {
  const buffer = frame(type, id, Buffer.byteLength(name))
  buffer.write(name, HEADER_BYTES)
  return buffer
}

export function decodeWalName(payload: Buffer): string {
  return walName(payload.toString('utf8'))
}

export interface WalReadRequest {
  readonly name: string
  readonly offset: number
  readonly length: number
}

/** `walRead` or `walReadStored`. */
export function encodeWalRead(
  type: typeof FRAME.walRead | typeof FRAME.walReadStored,
  id: number,
  { name, offset, length }: WalReadRequest,
): Buffer {
  if (!isUint48(offset)) throw outOfRange(`${name} at ${offset}`)
  const buffer = frame(type, id, 10 + Buffer.byteLength(name))
  buffer.writeUIntBE(offset, HEADER_BYTES, 6)
  buffer.writeUInt32BE(length, HEADER_BYTES + 6)
  buffer.write(name, HEADER_BYTES + 10)
  return buffer
}

export function decodeWalRead(payload: Buffer): WalReadRequest {
  if (payload.length < 10) throw malformed('walRead')
  const length = payload.readUInt32BE(6)
  if (length > MAX_READ_BYTES) throw tooLong(length, MAX_READ_BYTES)
  return { name: walName(payload.toString('utf8', 10)), offset: payload.readUIntBE(0, 6), length }
}

/** Bytes of a WAL file; an empty payload means that there is none. */
export function encodeSize(id: number, size: number | undefined): Buffer {
  const buffer = frame(FRAME.size, id, size === undefined ? 0 : 6)
  if (size !== undefined) buffer.writeUIntBE(size, HEADER_BYTES, 6)
  return buffer
}

export function decodeSize(payload: Buffer): number | undefined {
  if (payload.length !== 0 && payload.length !== 6) throw malformed('size')
  return payload.length === 0 ? undefined : payload.readUIntBE(0, 6)
}

/** Stored bytes, compression, and a checksum or none; an empty payload means that there is nothing to be read this way. */
export function encodeStored(id: number, stored: StoredWal | undefined): Buffer {
  if (stored === undefined) return frame(FRAME.stored, id, 0)
  const { bytes, compression, sha1 } = stored
  const buffer = frame(FRAME.stored, id, 7 + (sha1 === undefined ? 0 : SHA1_BYTES))
  buffer.writeUIntBE(bytes, HEADER_BYTES, 6)
  buffer[HEADER_BYTES + 6] = COMPRESSIONS.indexOf(compression)
  if (sha1 !== undefined) buffer.write(sha1, HEADER_BYTES + 7, 'hex')
  return buffer
}

export function decodeStored(payload: Buffer): StoredWal | undefined {
  if (payload.length === 0) return undefined
  const compression = COMPRESSIONS[payload[6] ?? COMPRESSIONS.length]
  if (compression === undefined || (payload.length !== 7 && payload.length !== 7 + SHA1_BYTES))
    throw malformed('stored')
  const sha1 = payload.length === 7 ? undefined : payload.toString('hex', 7)
  return { bytes: payload.readUIntBE(0, 6), compression, sha1 }
}

function walName(name: string): string {
  if (!isWalName(name)) throw malformed('WAL name')
  return name
}
