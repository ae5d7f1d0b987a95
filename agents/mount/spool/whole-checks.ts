/**
 * Checksums of files that are read in parts: once the parts together were the whole file, it is compared. Parts count
 * from the file's start on and in order; those that come a little early wait for the ones before them. Nothing is read
 * for it that nobody asked for.
 */
import { type Checksum, type RunningChecksum, startChecksum } from '../decode/checksum.ts'

/** Of the parts that wait, over all files. The file that was read longest ago loses its own first. */
const WAITING_BYTES = 32 * 1024 * 1024
/** A part that is further ahead of where its file was read to is not waited with. Bytes. */
const AHEAD_BYTES = 4 * 1024 * 1024

/** What is checked. It must be the same object for all reads of a file. */
export interface CheckedFile {
  /** Bytes. */
  readonly size: number
  readonly checksum: Checksum
}

export interface WholeChecks {
  /** Takes a part that was read. False: with it the file was read as a whole, and its checksum is another one. */
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
  /** Those with parts that wait, in the order of last use. */
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
    // A part of something larger would keep all of it in memory.
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

  /** Those that waited and may now be added, however they overlap. */
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
        // Most reads are somewhere inside: they are no beginning of anything.
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
