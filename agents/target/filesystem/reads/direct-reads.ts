/**
 * Direct reads: reads of missing blocks whose reply another thread writes to the device itself, after it fetched the
 * blocks; it also writes them to the fetched store. The engine learns of the result the next time it is awake, so a
 * missing block wakes only one thread, once. How direct reads reach that thread is the implementation's concern.
 */

/** The request in the kernel that waits for a read. */
export interface Requester {
  /** The halves of the request's unique number. */
  low: number
  high: number
  /** The requesting thread. */
  pid: number
}

export interface DirectRead extends Readonly<Requester> {
  /** The range of a file of the backup to fetch, at most `MAX_DIRECT_READ_BYTES`. */
  readonly file: number
  readonly offset: number
  readonly length: number
  /** The part of these bytes, relative to `offset`, that the reply carries. */
  readonly from: number
  readonly to: number
  /** Where to write all of them: an open file, and a position in it. */
  readonly fd: number
  readonly position: number
  /**
   * The reply was sent. `checks`: the checksums, by `blockCheck`, of the blocks that were written to `fd`; undefined when
   * writing failed.
   */
  readonly onCompleted: (checks: readonly number[] | undefined) => void
  /** The reply was an error: the range cannot be read. */
  readonly onFailed: (error: Error) => void
}

export interface DirectReads {
  /** No more can be sent at the moment. */
  readonly isFull: boolean
  /** Only while it is not full. Returns a function that requests to be notified on completion: a reader here waits for it, too. */
  send(directRead: DirectRead): () => void
  /** The thread that waits for the direct read with this unique number; undefined when there is none. */
  requesterOf(low: number, high: number): number | undefined
}

/** Larger reads are fetched for the engine, so that both threads share the copying. */
export const MAX_DIRECT_READ_BYTES = 64 * 1024
