/**
 * The file format of a base tree's rows: a header, the columns in sequence, and a SHA-256 of everything before it.
 * Numbers are in native byte order (the file never leaves the machine), each column is aligned to 8 bytes.
 */
import { createHash } from 'node:crypto'
import type { RowColumns } from './tree-columns.ts'

const MAGIC = 'HWDTREE\n'
const VERSION = 2
const DIGEST_BYTES = 32

const COLUMNS = [
  ['parents', Int32Array],
  ['modes', Uint16Array],
  ['mtimes', Float64Array],
  ['sizes', Float64Array],
  ['files', Float64Array],
  ['nameStarts', Uint32Array],
  ['names', Uint8Array],
  ['textInos', Int32Array],
  ['textStarts', Uint32Array],
  ['texts', Uint8Array],
] as const satisfies readonly (readonly [keyof RowColumns, unknown])[]

/** Magic, version, and the number of elements of each column. */
const HEADER_BYTES = 16 + 8 * COLUMNS.length

const padded = (bytes: number) => Math.ceil(bytes / 8) * 8

export function packRows(rows: RowColumns): Uint8Array {
  let size = HEADER_BYTES
  for (const [name] of COLUMNS) size += padded(rows[name].byteLength)
  const bytes = Buffer.alloc(size + DIGEST_BYTES)
  bytes.write(MAGIC, 'latin1')
  bytes.writeUInt32LE(VERSION, 8)
  let at = HEADER_BYTES
  for (const [index, [name]] of COLUMNS.entries()) {
    const { buffer, byteOffset, byteLength, length } = rows[name]
    bytes.writeBigUInt64LE(BigInt(length), 16 + 8 * index)
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at)
    at += padded(byteLength)
  }
  createHash('sha256').update(bytes.subarray(0, size)).digest().copy(bytes, size)
  return bytes
}

/** The inverse of `packRows`. @throws Error that says what is wrong */
export function unpackRows(packed: Uint8Array): RowColumns {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength)
  const end = bytes.length - DIGEST_BYTES
  if (end < HEADER_BYTES || bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) {
    throw new Error('it is not a saved file list')
  }
  if (bytes.readUInt32LE(8) !== VERSION) throw new Error('it is of another version of Howdah')
  const digest = createHash('sha256').update(bytes.subarray(0, end)).digest()
  if (!digest.equals(bytes.subarray(end))) throw new Error('its contents do not match its checksum')
  let at = HEADER_BYTES
  const take = <T>(
    index: number,
    make: { new (buffer: ArrayBuffer): T; readonly BYTES_PER_ELEMENT: number },
  ): T => {
    const length = Number(bytes.readBigUInt64LE(16 + 8 * index)) * make.BYTES_PER_ELEMENT
    const own = new ArrayBuffer(length)
    new Uint8Array(own).set(bytes.subarray(at, at + length))
    at += padded(length)
    return new make(own)
  }
  return {
    parents: take(0, Int32Array<ArrayBuffer>),
    modes: take(1, Uint16Array<ArrayBuffer>),
    mtimes: take(2, Float64Array<ArrayBuffer>),
    sizes: take(3, Float64Array<ArrayBuffer>),
    files: take(4, Float64Array<ArrayBuffer>),
    nameStarts: take(5, Uint32Array<ArrayBuffer>),
    names: take(6, Uint8Array<ArrayBuffer>),
    textInos: take(7, Int32Array<ArrayBuffer>),
    textStarts: take(8, Uint32Array<ArrayBuffer>),
    texts: take(9, Uint8Array<ArrayBuffer>),
  }
}
