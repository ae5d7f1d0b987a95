/**
 * Errands between the engine thread and the main thread, in shared memory: slots that hold what is to be done, and two
 * queues of their numbers, of those asked for and of those done. No message is sent for an errand unless a thread has
 * to be woken for it. Here are the memory and the engine's side; errand-runner.ts has the other.
 */
import { BLOCK } from '../../filesystem/contents/block-map.ts'
import { type Errand, type Errands, MAX_ERRAND_BYTES } from '../../filesystem/reads/direct-reads.ts'

/** Errands under way. The kernel has fewer reads under way at a time. */
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
  COUNT: 9 + MAX_ERRAND_BYTES / BLOCK,
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

export interface ErrandRing {
  readonly words: Int32Array<SharedArrayBuffer>
  readonly fields: Float64Array<SharedArrayBuffer>
}

export function sharedErrandRing(): ErrandRing {
  return {
    words: new Int32Array(new SharedArrayBuffer(WORD.COUNT * Int32Array.BYTES_PER_ELEMENT)),
    fields: new Float64Array(new SharedArrayBuffer(SLOTS * FIELD.COUNT * Float64Array.BYTES_PER_ELEMENT)),
  }
}

export interface ErrandSender extends Errands {
  /** Tells of what was done since the last time; to be called before the thread sleeps, and before it hears of anything else. */
  takeDone(): void
  /** An errand could not be done. */
  failed(slot: number, error: Error): void
}

/** The engine's side. `callMain` has the main thread look. */
export function createErrandSender({ words, fields }: ErrandRing, callMain: () => void): ErrandSender {
  const underWay: (Errand | undefined)[] = new Array<undefined>(SLOTS).fill(undefined)
  const free = underWay.map((_, slot) => slot)
  let asked = 0
  let done = 0

  function release(slot: number): Errand | undefined {
    const errand = underWay[slot]
    underWay[slot] = undefined
    if (errand !== undefined) free.push(slot)
    return errand
  }

  function takeDone(): void {
    for (; done !== Atomics.load(words, WORD.DONE); done = (done + 1) | 0) {
      const entry = words[WORD.DONE_QUEUE + (done & (SLOTS - 1))] as number
      const slot = entry & (SLOTS - 1)
      const errand = release(slot)
      errand?.landed((entry & WRITTEN) === 0 ? undefined : checksOf(slot, errand.length))
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

    send(errand) {
      const slot = free.pop()
      if (slot === undefined) throw new RangeError('there are too many errands')
      underWay[slot] = errand
      const at = slot * FIELD.COUNT
      fields[at + FIELD.LOW] = errand.low
      fields[at + FIELD.HIGH] = errand.high
      fields[at + FIELD.FILE] = errand.file
      fields[at + FIELD.OFFSET] = errand.offset
      fields[at + FIELD.LENGTH] = errand.length
      fields[at + FIELD.FROM] = errand.from
      fields[at + FIELD.TO] = errand.to
      fields[at + FIELD.FD] = errand.fd
      fields[at + FIELD.POSITION] = errand.position
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

    askerOf(low, high) {
      return underWay.find((errand) => errand?.low === low && errand.high === high)?.pid
    },

    failed(slot, error) {
      release(slot)?.failed(error)
    },
  }
}
