/**
 * Parses one header block of a tar archive. Facts: POSIX pax (ustar, extended headers), GNU tar's manual "Basic Tar
 * Format" (long names, base-256 numbers, types), and PostgreSQL's src/port/tar.c, which writes ustar with links in
 * `linkname`.
 */
import { decodeName } from '../../../dataplane/protocol/file-names.ts'

export const BLOCK_BYTES = 512
const ZERO = 48
const SPACE = 32

/** A malformed archive; the caller adds which archive it is. */
export class MalformedTar extends Error {}

/** The archive has a member that no PostgreSQL backup has. */
export class UnsupportedTar extends Error {}

export interface TarHeader {
  /** The type flag: `0` file, `2` symbolic link, `5` directory, `x`/`g` extended headers, `L`/`K` long names. */
  readonly type: string
  /** As stored. */
  readonly name: string
  readonly linkName: string
  readonly mode: number
  readonly mtime: number
  /** Bytes of data that follow, without the padding. */
  readonly size: number
}

/** Undefined for a block of zeros. @throws MalformedTar */
export function parseTarHeader(block: Buffer): TarHeader | undefined {
  if (isZero(block)) return undefined
  const stored = octal(block, 148, 8, 'checksum')
  // The checksum's own field counts as spaces.
  let sum = 8 * 32
  let high = 0
  for (let n = 0; n < BLOCK_BYTES; n++) {
    if (n === 148) n = 156
    const byte = block[n] as number
    sum += byte
    if (byte > 127) high += 1
  }
  // Some old programs summed signed bytes.
  if (stored !== sum && stored !== sum - 256 * high) throw new MalformedTar('a header has a wrong checksum')
  const type = block[156] === 0 ? '0' : String.fromCharCode(block[156] ?? 0)
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0'
  const prefix = isUstar ? text(block, 345, 155) : ''
  const name = text(block, 0, 100)
  return {
    type,
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: text(block, 157, 100),
    mode: number(block, 100, 8, 'mode') & 0o7777,
    mtime: number(block, 136, 12, 'time'),
    size: number(block, 124, 12, 'size'),
  }
}

/**
 * The records of an extended header, `<length> <key>=<value>\n` each.
 * @throws MalformedTar
 */
export function parsePax(data: Buffer): Map<string, string> {
  const records = new Map<string, string>()
  for (let start = 0; start < data.length; ) {
    const space = data.indexOf(32, start)
    const digits = space < 0 || space - start > 8 ? '' : data.toString('latin1', start, space)
    const end = start + Number(digits)
    const equals = data.indexOf(61, space)
    if (!/^\d+$/.test(digits) || end > data.length || equals < 0 || equals >= end || data[end - 1] !== 10) {
      throw new MalformedTar('an extended header has a malformed record')
    }
    records.set(data.toString('utf8', space + 1, equals), decodeName(data, equals + 1, end - 1))
    start = end
  }
  return records
}

export function isZero(block: Buffer): boolean {
  for (let n = 0; n < block.length; n++) if (block[n] !== 0) return false
  return true
}

function text(block: Buffer, start: number, length: number): string {
  const end = block.indexOf(0, start)
  return decodeName(block, start, end < 0 || end > start + length ? start + length : end)
}

function number(block: Buffer, start: number, length: number, what: string): number {
  const first = block[start] ?? 0
  if ((first & 0x80) === 0) return octal(block, start, length, what)
  // Base 256, for numbers that octal digits cannot hold; negative ones are not valid here.
  let value = first & 0x7f
  for (let n = start + 1; n < start + length; n++) {
    value = value * 256 + (block[n] ?? 0)
    if (value > Number.MAX_SAFE_INTEGER) throw new MalformedTar(`a header has an impossible ${what}`)
  }
  return value
}

function octal(block: Buffer, start: number, length: number, what: string): number {
  const end = start + length
  let at = start
  while (at < end && block[at] === SPACE) at += 1
  let value = 0
  for (; at < end; at += 1) {
    const digit = (block[at] as number) - ZERO
    if (digit < 0 || digit > 7) break
    value = value * 8 + digit
  }
  const after = block[at] ?? 0
  if (at < end && after !== 0 && after !== SPACE) throw new MalformedTar(`a header has a malformed ${what}`)
  return value
}
