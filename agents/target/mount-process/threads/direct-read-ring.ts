/**
 * Direct reads between the engine thread and the main thread, in shared memory: slots with the parameters, and two queues
 * of slot numbers, requested and completed. A message is sent only when a thread has to be woken. This file has the
 * memory layout and the engine's side; direct-read-runner.ts has the main thread's.
 */
import { BLOCK } from '../../filesystem/contents/block-map.ts'
import {
  type DirectRead,
  type DirectReads,
  MAX_DIRECT_READ_BYTES,
} from '../../filesystem/reads/direct-reads.ts'

/** Direct reads in progress at a time; the kernel has fewer reads in flight. */
export const SLOTS = 64

/**
 * Fields of a slot. The engine writes them before it queues the slot; the main thread writes the checksums, one per block,
 * before it queues the slot as completed.
 */
export const FIELD = {
  LOW: 0,
  HIGH: 1,
  FILE: 2,
  OFFSET: 3,
  LENGTH: 4,
  FROM: 5,
  TO: 6,
  FD: 7,
  POSITION: 8,
  CHECKS: 9,
  COUNT: 9 + MAX_DIRECT_READ_BYTES / BLOCK,
} as const

/** Words of the shared memory: the counters, then both queues, then for each slot whether the engine waits for it. */
export const WORD = {
  /** Totals of requested and of completed slots. */
  REQUESTED: 0,
  DONE: 1,
  /** The main thread was notified and has not polled yet. */
  NOTIFIED: 2,
  REQUESTED_QUEUE: 3,
  DONE_QUEUE: 3 + SLOTS,
  AWAITED: 3 + 2 * SLOTS,
  COUNT: 3 + 3 * SLOTS,
} as const

/** Flag of an entry of the queue of completed slots: the bytes were written to the store. */
export const WRITTEN = 0x100

export interface DirectReadRing {
  readonly words: Int32Array<SharedArrayBuffer>
  readonly fields: Float64Array<SharedArrayBuffer>
}

export function sharedDirectReadRing(): DirectReadRing {
  return {
    words: new Int32Array(new SharedArrayBuffer(WORD.COUNT * Int32Array.BYTES_PER_ELEMENT)),
    fields: new Float64Array(new SharedArrayBuffer(SLOTS * FIELD.COUNT * Float64Array.BYTES_PER_ELEMENT)),
  }
}

export interface DirectReadSender extends DirectReads {
  /** Processes completed slots; to be called before the thread sleeps, and before it handles any message. */
  takeDone(): void
  /** A direct read failed. */
  failed(slot: number, error: Error): void
}

/** The engine's side. `notifyMain` makes the main thread poll the ring. */
export function createDirectReadSender(
  { words, fields }: DirectReadRing,
  notifyMain: () => void,
): DirectReadSender {
  const pending: (DirectRead | undefined)[] = new Array<undefined>(SLOTS).fill(undefined)
  const free = pending.map((_, slot) => slot)
  let requested = 0
  let done = 0

  function release(slot: number): DirectRead | undefined {
    const directRead = pending[slot]
    pending[slot] = undefined
    if (directRead !== undefined) free.push(slot)
    return directRead
  }

  function takeDone(): void {
    for (; done !== Atomics.load(words, WORD.DONE); done = (done + 1) | 0) {
      const entry = words[WORD.DONE_QUEUE + (done & (SLOTS - 1))] as number
      const slot = entry & (SLOTS - 1)
      const directRead = release(slot)
      directRead?.onCompleted((entry & WRITTEN) === 0 ? undefined : checksOf(slot, directRead.length))
    }
  }

  function checksOf(slot: number, length: number): number[] {
    const from = slot * FIELD.COUNT + FIELD.CHECKS
    return Array.from(fields.subarray(from, from + Math.ceil(length / BLOCK)))
  }

  return {
    takeDone,

    get isFull() {
      return free.length === 0
    },

    send(directRead) {
      const slot = free.pop()
      if (slot === undefined) throw new RangeError('there are too many direct reads')
      pending[slot] = directRead
      const at = slot * FIELD.COUNT
      fields[at + FIELD.LOW] = directRead.low
      fields[at + FIELD.HIGH] = directRead.high
      fields[at + FIELD.FILE] = directRead.file
      fields[at + FIELD.OFFSET] = directRead.offset
      fields[at + FIELD.LENGTH] = directRead.length
      fields[at + FIELD.FROM] = directRead.from
      fields[at + FIELD.TO] = directRead.to
      fields[at + FIELD.FD] = directRead.fd
      fields[at + FIELD.POSITION] = directRead.position
      Atomics.store(words, WORD.AWAITED + slot, 0)
      words[WORD.REQUESTED_QUEUE + (requested & (SLOTS - 1))] = slot
      requested = (requested + 1) | 0
      Atomics.store(words, WORD.REQUESTED, requested)
      if (Atomics.exchange(words, WORD.NOTIFIED, 1) === 0) notifyMain()
      return () => {
        // The other side reads this after it has set DONE, so at least one side sees the other's write.
        Atomics.store(words, WORD.AWAITED + slot, 1)
        takeDone()
      }
    },

    requesterOf(low, high) {
      return pending.find((directRead) => directRead?.low === low && directRead.high === high)?.pid
    },

    failed(slot, error) {
      release(slot)?.onFailed(error)
    },
  }
}
