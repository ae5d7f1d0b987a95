/**
 * Verifies checksums of files that are read in parts: once the parts make up the whole file, its checksum is compared.
 * Parts are hashed from the file's start on and in order; those that come a little early are kept until the ones before
 * them were read. Nothing more is read for it.
 */
import { type Checksum, type RunningChecksum, startChecksum } from '../decode/checksum.ts'

/** Limit for the parts that are kept, over all files; those of the least recently read file are dropped first. Bytes. */
const WAITING_BYTES = 32 * 1024 * 1024
/** A part that is further ahead of the hashed position is not kept. Bytes. */
const AHEAD_BYTES = 4 * 1024 * 1024

/** A file to check. It must be the same object for all reads of a file. */
export interface CheckedFile {
  /** Bytes. */
  readonly size: number
  readonly checksum: Checksum
}

export interface WholeChecks {
  /** Adds a part that was read. False: with it the file is complete, and its checksum does not match. */
  take(file: CheckedFile, offset: number, part: Buffer): boolean
}

interface Progress {
  readonly running: RunningChecksum
  position: number
  /** By offset. */
  readonly waiting: Map<number, Buffer>
  waitingBytes: number
}

export function createWholeChecks(): WholeChecks {
  const progress = new WeakMap<CheckedFile, Progress>()
  /** Those with kept parts, least recently used first. */
  const holders = new Set<Progress>()
  const outcomes = new WeakMap<CheckedFile, boolean>()
  let waitingBytes = 0

  function drop(one: Progress): void {
    holders.delete(one)
    waitingBytes -= one.waitingBytes
    one.waitingBytes = 0
    one.waiting.clear()
  }

  function hold(one: Progress, offset: number, part: Buffer): void {
    if (offset - one.position > AHEAD_BYTES || one.waiting.has(offset)) return
    // A view would keep its whole buffer in memory.
    one.waiting.set(offset, part.buffer.byteLength > 2 * part.length ? Buffer.from(part) : part)
    one.waitingBytes += part.length
    waitingBytes += part.length
    holders.delete(one)
    holders.add(one)
    for (const oldest of holders) {
      if (waitingBytes <= WAITING_BYTES) return
      drop(oldest)
    }
  }

  function add(one: Progress, offset: number, part: Buffer): void {
    if (offset + part.length <= one.position) return
    one.running.update(offset === one.position ? part : part.subarray(one.position - offset))
    one.position = offset + part.length
  }

  /** Adds kept parts that are now in order; they may overlap. */
  function addWaiting(one: Progress): void {
    for (let again = one.waiting.size > 0; again; ) {
      again = false
      for (const [offset, part] of one.waiting) {
        if (offset > one.position) continue
        one.waiting.delete(offset)
        one.waitingBytes -= part.length
        waitingBytes -= part.length
        add(one, offset, part)
        again = true
      }
    }
    if (one.waiting.size === 0) holders.delete(one)
  }

  return {
    take(file, offset, part) {
      const outcome = outcomes.get(file)
      if (outcome !== undefined) return outcome
      let one = progress.get(file)
      if (one === undefined) {
        // Most reads are somewhere in the middle: they start no check.
        if (offset > AHEAD_BYTES) return true
        one = { running: startChecksum(file.checksum), position: 0, waiting: new Map(), waitingBytes: 0 }
        progress.set(file, one)
      }
      if (offset > one.position) {
        hold(one, offset, part)
        return true
      }
      add(one, offset, part)
      addWaiting(one)
      if (one.position < file.size) return true
      const isRight = one.running.matches()
      outcomes.set(file, isRight)
      progress.delete(file)
      drop(one)
      return isRight
    },
  }
}
