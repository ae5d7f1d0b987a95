/**
 * Owns freeing buffers early. V8 counts megabytes outside of its heap as a reason to collect garbage: a stream of WAL
 * made it mark the whole heap for each segment, which took longer than decoding the segment.
 */

/** Frees a buffer that has no other user, now or later. Small buffers share their memory with others and are kept. */
export function freeBuffer({ buffer, byteLength }: Buffer): void {
  if (byteLength > Buffer.poolSize && buffer instanceof ArrayBuffer) buffer.transfer(0)
}

export const isFreed = ({ buffer }: Buffer): boolean => buffer instanceof ArrayBuffer && buffer.detached
