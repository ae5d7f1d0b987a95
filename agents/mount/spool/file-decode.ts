/**
 * One large file on its way from the repository into the spool: decodes it into a part file, hands out what is decoded
 * as soon as it is, and becomes a complete file or a failure.
 *
 * The part file gets its final name only when its contents are durable: what a restart finds under a final name is
 * complete.
 */
import { close, fdatasync, open, rename, rm, write } from 'node:fs'
import { pipeline, Readable } from 'node:stream'
import { promisify } from 'node:util'
import { HowdahError } from '../../../messages/errors.ts'
import { checksumOf, startChecksum } from '../decode/checksum.ts'
import { type DescriptorCache, readAt } from '../decode/descriptor-cache.ts'
import { damaged, type StoredFile, storedFileError } from '../decode/stored-file.ts'
import { createDecoder } from '../decode/transform.ts'
import type { Turns } from './decode-turns.ts'

const READ_BYTES = 256 * 1024
/** What is decoded in one turn. */
const TURN_BYTES = 1024 * 1024
/** A decode stays urgent until it is this far ahead of what was asked for: sequential readers do not stop and go. */
const AHEAD_BYTES = 8 * 1024 * 1024

const openFile = promisify(open)
const closeFile = promisify(close)
const writeFile = promisify(write)
const syncFile = promisify(fdatasync)
const renameFile = promisify(rename)
const removeFile = promisify(rm)

export interface Decode {
  /**
   * Resolves with a descriptor of the plain file as soon as its first `bytes` are decoded, or all where it has fewer. The descriptor stays open
   * until `release`, which must be called once for each resolved wait.
   */
  wait(bytes: number, signal?: AbortSignal): Promise<number>
  release(): void
  /** Whether a reader waits or reads now. */
  readonly busy: boolean
  readonly complete: boolean
  /** Set once it failed; every wait rejects with it. */
  readonly failure: unknown
  /** Settles when it is complete, failed or cancelled; never rejects. */
  readonly settled: Promise<void>
  /** Stops, fails those who wait, and deletes the part file. */
  cancel(reason: Error): void
}

export interface DecodeDependencies {
  readonly turns: Turns
  readonly descriptors: DescriptorCache
  /** Where the complete file goes. */
  readonly path: string
  /** Where it grows, in the same directory; no other decode may use it. */
  readonly part: string
  /** Called with the bytes decoded so far, now and then and at the end. */
  readonly grown?: (bytes: number) => void
}

interface Waiter {
  readonly bytes: number
  readonly resolve: (fd: number) => void
  readonly reject: (error: unknown) => void
}

/** @param size bytes when plain; undefined: only decoding tells */
export function startDecode(
  file: StoredFile,
  size: number | undefined,
  dependencies: DecodeDependencies,
): Decode {
  const { turns, descriptors, path, part, grown } = dependencies
  const cancelled = new AbortController()
  const waiters = new Set<Waiter>()
  let fd: number | undefined
  let decoded = 0
  let wanted = 0
  let readers = 0
  let complete = false
  let failure: unknown
  let ended = false

  const urgent = () => cancelled.signal.aborted || (wanted > 0 && decoded < wanted + AHEAD_BYTES)

  async function* stored(): AsyncGenerator<Buffer> {
    const { path: from, offset, length } = file.region
    let position = offset
    const end = length === undefined ? Number.POSITIVE_INFINITY : offset + length
    while (position < end) {
      const piece = await descriptors.use(file.region, from, (opened) =>
        readAt(opened.fd, position, Math.min(READ_BYTES, end - position)),
      )
      if (piece.length === 0) return
      position += piece.length
      yield piece
    }
  }

  function plain(): Readable {
    let stream: Readable = Readable.from(stored(), { objectMode: false, highWaterMark: READ_BYTES })
    for (const transform of file.transforms) {
      const next = createDecoder(transform)
      // The error reaches whoever reads the last stream; nothing is left to do here.
      pipeline(stream, next, () => undefined)
      stream = next
    }
    return stream
  }

  async function run(): Promise<void> {
    const checksum = checksumOf(file)
    const hash = checksum && startChecksum(checksum)
    const out = await spoolWork(path, () => openFile(part, 'w+', 0o600))
    fd = out
    const pieces = (plain() as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
    // One piece is decoded while the one before it is written.
    const pull = () => {
      const next = pieces.next()
      next.catch(() => undefined)
      return next
    }
    let next = pull()
    let over = false
    try {
      while (!over) {
        const endTurn = await turns.take(urgent)
        try {
          for (const until = decoded + TURN_BYTES; decoded < until && !over; ) {
            cancelled.signal.throwIfAborted()
            const piece = await next
            over = piece.done === true
            if (piece.done === true) break
            next = pull()
            await take(out, piece.value)
            hash?.update(piece.value)
          }
        } finally {
          endTurn()
        }
        grown?.(decoded)
      }
    } finally {
      await pieces.return?.()
    }
    if (size !== undefined && decoded !== size) {
      throw damaged(file, `it decodes to ${decoded} bytes where the backup lists ${size}`)
    }
    if (hash?.matches() === false) {
      throw damaged(file, 'its contents do not match their checksum')
    }
    await spoolWork(path, async () => {
      await syncFile(out)
      await renameFile(part, path)
    })
    complete = true
    for (const waiter of waiters) waiter.resolve(out)
    waiters.clear()
  }

  /** Writes the next plain bytes and hands them out. */
  async function take(out: number, piece: Buffer): Promise<void> {
    if (size !== undefined && decoded + piece.length > size) {
      throw damaged(file, `it decodes to more than the ${size} bytes that the backup lists`)
    }
    await spoolWork(path, () => writeAll(out, piece, decoded))
    decoded += piece.length
    wake(out)
  }

  function wake(out: number): void {
    for (const waiter of waiters) {
      if (waiter.bytes > decoded) continue
      waiters.delete(waiter)
      waiter.resolve(out)
    }
  }

  function decodedUpTo(bytes: number, signal: AbortSignal | undefined): Promise<number> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        waiters.delete(waiter)
        reject(signal?.reason)
      }
      const done = () => signal?.removeEventListener('abort', abort)
      const waiter: Waiter = {
        bytes,
        resolve: (ready) => {
          done()
          resolve(ready)
        },
        reject: (error) => {
          done()
          reject(error)
        },
      }
      signal?.addEventListener('abort', abort, { once: true })
      waiters.add(waiter)
    })
  }

  /** Closes the descriptor once nobody reads from it any more. */
  function closeWhenUnused(): void {
    if (!ended || readers > 0 || fd === undefined) return
    const open = fd
    fd = undefined
    closeFile(open).catch(() => undefined)
  }

  async function runToEnd(): Promise<void> {
    try {
      await run()
    } catch (error) {
      failure = cancelled.signal.aborted ? cancelled.signal.reason : storedFileError(error, file)
      await removeFile(part, { force: true }).catch(() => undefined)
    }
    for (const waiter of waiters) waiter.reject(failure)
    waiters.clear()
    ended = true
    closeWhenUnused()
  }

  return {
    async wait(bytes, signal) {
      if (failure !== undefined) throw failure
      signal?.throwIfAborted()
      wanted = Math.max(wanted, bytes)
      turns.reconsider()
      readers += 1
      try {
        return fd !== undefined && (bytes <= decoded || complete) ? fd : await decodedUpTo(bytes, signal)
      } catch (error) {
        readers -= 1
        throw error
      }
    },
    release() {
      readers -= 1
      closeWhenUnused()
    },
    get busy() {
      return readers > 0
    },
    get complete() {
      return complete
    },
    get failure() {
      return failure
    },
    settled: runToEnd(),
    cancel(reason) {
      cancelled.abort(reason)
      turns.reconsider()
    },
  }
}

async function writeAll(fd: number, bytes: Buffer, position: number): Promise<void> {
  let done = 0
  while (done < bytes.length) {
    const { bytesWritten } = await writeFile(fd, bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

/** Names the spool, not the backup, when the spool's own file system fails. */
async function spoolWork<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HowdahError(
      'repository_unavailable',
      `the mount agent cannot write its spool (${path}): ${reason}; make room there or give it another directory`,
      { cause: error },
    )
  }
}
