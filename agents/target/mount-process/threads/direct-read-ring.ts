/**
 * Direct reads between the engine thread and the main thread, in shared memory: slots that hold what is to be done, and two
 * queues of their numbers, of those asked for and of those done. No message is sent for a direct read unless a thread has
 * to be woken for it. Here are the memory and the engine's side; direct-read-runner.ts has the other.
 */
import { BLOCK } from '../../filesystem/contents/block-map.ts'
import {
  type DirectRead,
  type DirectReads,
  MAX_DIRECT_READ_BYTES,
} from '../../filesystem/reads/direct-reads.ts'

/** Direct reads under way. The kernel has fewer reads under way at a time. */
export const SLOTS = 64

/**
 * Numbers of a slot; written by the engine before the slot is asked for. The checksums, one for each block, are written
 * by the main thread before it says that the slot is done.
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

/** Words of the shared memory; what the queues hold follows, and then for each slot whether the engine waits for it. */
export const WORD = {
  /** How many were ever asked for, and done. */
  ASKED: 0,
  DONE: 1,
  /** The main thread was called and has not looked yet. */
  CALLED: 2,
  ASKED_QUEUE: 3,
  DONE_QUEUE: 3 + SLOTS,
  AWAITED: 3 + 2 * SLOTS,
  COUNT: 3 + 3 * SLOTS,
} as const

/** What a queue of those done holds: the slot, and whether its bytes were written. */
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
  /** Tells of what was done since the last time; to be called before the thread sleeps, and before it hears of anything else. */
  takeDone(): void
  /** A direct read could not be done. */
  failed(slot: number, error: Error): void
}

/** The engine's side. `callMain` has the main thread look. */
export function createDirectReadSender(
  { words, fields }: DirectReadRing,
  callMain: () => void,
): DirectReadSender {
  const underWay: (DirectRead | undefined)[] = new Array<undefined>(SLOTS).fill(undefined)
  const free = underWay.map((_, slot) => slot)
  let asked = 0
  let done = 0

  function release(slot: number): DirectRead | undefined {
    const directRead = underWay[slot]
    underWay[slot] = undefined
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
      underWay[slot] = directRead
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
      words[WORD.ASKED_QUEUE + (asked & (SLOTS - 1))] = slot
      asked = (asked + 1) | 0
      Atomics.store(words, WORD.ASKED, asked)
      if (Atomics.exchange(words, WORD.CALLED, 1) === 0) callMain()
      return () => {
        // The other side looks at this after it said that it is done: one of the two sees the other.
        Atomics.store(words, WORD.AWAITED + slot, 1)
        takeDone()
      }
    },

    requesterOf(low, high) {
      return underWay.find((directRead) => directRead?.low === low && directRead.high === high)?.pid
    },

    failed(slot, error) {
      release(slot)?.onFailed(error)
    },
  }
}
