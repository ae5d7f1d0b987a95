/**
 * Direct reads: reads of the kernel that another thread fetches, answers on the device and writes to the fetched store, all by
 * itself. The engine hears of it when it is awake anyway, so a missing block wakes one thread, once. How direct reads travel
 * is not known here.
 */

/** Who waits in the kernel for the answer to a read. */
export interface Requester {
  /** The halves of the request's unique number. */
  low: number
  high: number
  /** The thread that asked. */
  pid: number
}

export interface DirectRead extends Readonly<Requester> {
  /** The bytes of a file of the backup that are to be fetched, at most `MAX_DIRECT_READ_BYTES`. */
  readonly file: number
  readonly offset: number
  readonly length: number
  /** The part of them, from the first one on, that is the answer. */
  readonly from: number
  readonly to: number
  /** Where all of them are written to: an open file, and a position in it. */
  readonly fd: number
  readonly position: number
  /**
   * The requester was answered. `checks`: the checksums of the blocks that are now where they were to be written to, by
   * `blockCheck`; undefined when they are not.
   */
  readonly onCompleted: (checks: readonly number[] | undefined) => void
  /** The requester was answered that it cannot be read. */
  readonly onFailed: (error: Error) => void
}

export interface DirectReads {
  /** No more can be sent now. */
  readonly isFull: boolean
  /** Only while it is not full. Gives a way to hear of the end as soon as it comes: somebody here waits for it too. */
  send(directRead: DirectRead): () => void
  /** The thread that asked for what is under way under this unique number; undefined when nothing is. */
  requesterOf(low: number, high: number): number | undefined
}

/** Larger reads are better fetched for the engine: the work of copying is then two threads'. */
export const MAX_DIRECT_READ_BYTES = 64 * 1024
