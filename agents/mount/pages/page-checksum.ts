/**
 * PostgreSQL's checksum of a data page (storage/checksum_impl.h): FNV-1a in 32 lanes side by side over the page as
 * 32-bit words, its own field taken as zero; the block's number is mixed in, so that a page in the wrong place is found.
 */

export const PAGE_BYTES = 8192

const LANES = 32
const ROUNDS = PAGE_BYTES / 4 / LANES
const PRIME = 16_777_619
/** pd_checksum of PageHeaderData (storage/bufpage.h): bytes 8 and 9, the lower half of the third word. */
const CHECKSUM_WORD = 2

/** checksumBaseOffsets: where each lane begins. */
const BASES = Int32Array.of(
  ...[0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c],
  ...[0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb],
  ...[0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4],
  ...[0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756],
)

/** Holds one page at a time, as 32-bit words. */
const words = new Int32Array(PAGE_BYTES / 4)
const bytes = new Uint8Array(words.buffer)

/**
 * What `pd_checksum` of a page has to be.
 * @param pages holds the page, PAGE_BYTES from `offset` on
 * @param block number of the block in its relation, over all of the relation's files
 */
export function pageChecksum(pages: Buffer, offset: number, block: number): number {
  bytes.set(pages.subarray(offset, offset + PAGE_BYTES))
  words[CHECKSUM_WORD] = (words[CHECKSUM_WORD] ?? 0) & 0xffff_0000
  let result = 0
  // Lane by lane, so that the sum of a lane stays in a register.
  for (let lane = 0; lane < LANES; lane += 1) {
    let sum = BASES[lane] ?? 0
    for (let at = lane; at < ROUNDS * LANES; at += LANES) {
      const mixed = sum ^ (words[at] as number)
      sum = Math.imul(mixed, PRIME) ^ (mixed >>> 17)
    }
    // Two more rounds of zeros mix the last words.
    sum = Math.imul(sum, PRIME) ^ (sum >>> 17)
    sum = Math.imul(sum, PRIME) ^ (sum >>> 17)
    result ^= sum
  }
  return (((result ^ block) >>> 0) % 65_535) + 1
}
