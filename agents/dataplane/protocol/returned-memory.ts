/**
 * Buffers whose memory is given back as soon as nobody needs them. To V8 megabytes outside of its heap are a reason to
 * collect garbage: a stream of WAL had it mark everything for each segment, which took longer than to decode it.
 */

/** Ends a buffer that nobody else has or will have. Small ones share their memory with others, and stay. */
export function giveBack({ buffer, byteLength }: Buffer): void {
  if (byteLength > Buffer.poolSize && buffer instanceof ArrayBuffer) buffer.transfer(0)
}

export const isGivenBack = ({ buffer }: Buffer): boolean => buffer instanceof ArrayBuffer && buffer.detached
