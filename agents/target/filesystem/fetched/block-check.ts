/**
 * The checksum of a block in a fetched store: CRC-32 (zlib's, 3 µs for a block) of the whole block, padded with
 * zeros after the end of a file. It detects that a slot no longer has the bytes that were written to it.
 */
import { crc32 } from 'node:zlib'
import { BLOCK } from '../contents/block-map.ts'

const ZEROS = Buffer.alloc(BLOCK)

/** `data`: the bytes of one block, fewer where its file ends. */
export function blockCheck(data: Uint8Array): number {
  const check = crc32(data)
  return data.length === BLOCK ? check : crc32(ZEROS.subarray(data.length), check)
}

/** The checksums of consecutive blocks, the last of which may be short. */
export function blockChecks(data: Uint8Array): number[] {
  const checks: number[] = []
  for (let at = 0; at < data.length; at += BLOCK) checks.push(blockCheck(data.subarray(at, at + BLOCK)))
  return checks
}
