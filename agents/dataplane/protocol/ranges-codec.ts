/** Owns the payloads of `readMany` and `rangeData`: many ranges in one request, and the pieces that answer it. */
import type { FileRange } from '../backup-source.ts'
import {
  FRAME,
  frame,
  HEADER_BYTES,
  isUint48,
  MAX_RANGES_BYTES,
  malformed,
  outOfRange,
  PIECE_HEAD_BYTES,
  RANGE_BYTES,
  RANGES_HEAD_BYTES,
  tooLong,
} from './protocol.ts'

export interface RangesRequest {
  /** Bytes that may be sent before the peer grants more credit. */
  readonly credit: number
  /** Number of the first range: those before it were answered earlier. */
  readonly first: number
  readonly ranges: readonly FileRange[]
}

export function encodeReadMany(id: number, { credit, first, ranges }: RangesRequest): Buffer {
  const buffer = frame(FRAME.readMany, id, RANGES_HEAD_BYTES + ranges.length * RANGE_BYTES)
  let at = buffer.writeUInt32BE(credit, HEADER_BYTES)
  at = buffer.writeUInt32BE(first, at)
  for (const { file, offset, length } of ranges) {
    if (!isUint48(file) || !isUint48(offset)) throw outOfRange(`file ${file} at ${offset}`)
    at = buffer.writeUIntBE(file, at, 6)
    at = buffer.writeUIntBE(offset, at, 6)
    at = buffer.writeUInt32BE(length, at)
  }
  return buffer
}

export function decodeReadMany(payload: Buffer): RangesRequest {
  const count = (payload.length - RANGES_HEAD_BYTES) / RANGE_BYTES
  if (!Number.isInteger(count) || count < 1) throw malformed('readMany')
  const ranges: FileRange[] = []
  let bytes = 0
  for (let at = RANGES_HEAD_BYTES; at < payload.length; at += RANGE_BYTES) {
    const length = payload.readUInt32BE(at + 12)
    bytes += length
    ranges.push({ file: payload.readUIntBE(at, 6), offset: payload.readUIntBE(at + 6, 6), length })
  }
  if (bytes > MAX_RANGES_BYTES) throw tooLong(bytes, MAX_RANGES_BYTES)
  return { credit: payload.readUInt32BE(0), first: payload.readUInt32BE(4), ranges }
}

/** What comes before the data of a piece: the number of its range, and its offset in the file. */
export function encodePieceHead(id: number, index: number, offset: number, dataBytes: number): Buffer {
  const buffer = frame(FRAME.rangeData, id, PIECE_HEAD_BYTES + dataBytes, PIECE_HEAD_BYTES)
  buffer.writeUInt32BE(index, HEADER_BYTES)
  buffer.writeUIntBE(offset, HEADER_BYTES + 4, 6)
  return buffer
}

export function decodePiece(payload: Buffer): { index: number; offset: number; data: Buffer } {
  if (payload.length <= PIECE_HEAD_BYTES) throw malformed('rangeData')
  return {
    index: payload.readUInt32BE(0),
    offset: payload.readUIntBE(4, 6),
    data: payload.subarray(PIECE_HEAD_BYTES),
  }
}
