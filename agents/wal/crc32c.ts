/** CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), of PostgreSQL's WAL records (port/pg_crc32c.h). */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f6_3b78 : value >>> 1
  return value >>> 0
})

/** The initial value of a running CRC, by which the final one is XORed. */
export const crc32cStart = 0xffff_ffff

/** A running CRC, updated with one more piece. */
export function crc32cStep(running: number, piece: Buffer): number {
  let crc = running
  for (let n = 0; n < piece.length; n++) crc = (TABLE[(crc ^ (piece[n] ?? 0)) & 0xff] ?? 0) ^ (crc >>> 8)
  return crc
}

/** The CRC of several pieces, one after another. */
export const crc32c = (...pieces: readonly Buffer[]): number =>
  (pieces.reduce(crc32cStep, crc32cStart) ^ crc32cStart) >>> 0
