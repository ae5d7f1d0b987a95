/**
 * One large file on its way from the repository into the spool: decodes it into a part file, serves what is decoded so
 * far, and becomes a complete file or a failure.
 *
 * The part file gets its final name only when its contents are durable: what a restart finds under a final name is
 * complete.
 */
import { close, fdatasync, open, rename, rm } from 'node:fs'
import { promisify } from 'node:util'
import { checksumOf, startChecksum } from '../decode/checksum.ts'
import type { DescriptorCache } from '../decode/descriptor-cache.ts'
import { damaged, type StoredFile, storedFileError } from '../decode/stored-file.ts'
import { decodeStream } from './decode-stream.ts'
import type { Turns } from './decode-turns.ts'
import { createDecodeWaiters } from './decode-waiters.ts'
import { readInTurns } from './read-in-turns.ts'
import { spoolWork, writeAll } from './spool-files.ts'

/** A decode stays urgent until it is this far ahead of the furthest read, so that sequential readers do not stop and go. */
const AHEAD_BYTES = 8 * 1024 * 1024

const openFile = promisify(open)
const closeFile = promisify(close)
const syncFile = promisify(fdatasync)
const renameFile = promisify(rename)
const removeFile = promisify(rm)

export interface Decode {
  /**
   * Resolves with a descriptor of the plain file as soon as its first `bytes` are decoded, or all where it has fewer.
   * The descriptor stays open until `release`, which must be called once for each resolved wait.
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
  /** Stops, fails every wait, and removes the part file. */
  cancel(reason: Error): void
}

export interface DecodeDependencies {
  readonly turns: Turns
  readonly descriptors: DescriptorCache
  /** Where the complete file goes. */
  readonly path: string
  /** Where it grows, in the same directory; no other decode may use it. */
  readonly part: string
  /** Called with the bytes decoded so far, after each turn. */
  readonly grown?: (bytes: number) => void
}

/** @param size bytes when plain; undefined: only decoding shows */
export function startDecode(
  file: StoredFile,
  size: number | undefined,
  dependencies: DecodeDependencies,
): Decode {
  const { turns, descriptors, path, part, grown } = dependencies
  const cancelled = new AbortController()
  const waiters = createDecodeWaiters()
  let fd: number | undefined
  let decoded = 0
  let wanted = 0
  let readers = 0
  let complete = false
  let failure: unknown
  let ended = false

  const urgent = () => cancelled.signal.aborted || (wanted > 0 && decoded < wanted + AHEAD_BYTES)

  /** Decodes all of the file into `out` and checks its size and checksum. */
  async function decodeInto(out: number): Promise<void> {
    const checksum = checksumOf(file)
    const hash = checksum && startChecksum(checksum)
    await readInTurns(decodeStream(file, descriptors), {
      turns,
      urgent,
      signal: cancelled.signal,
      async write(piece) {
        await append(out, piece)
        hash?.update(piece)
      },
      turnEnded: () => grown?.(decoded),
    })
    if (size !== undefined && decoded !== size) {
      throw damaged(file, `it decodes to ${decoded} bytes where the backup lists ${size}`)
    }
    if (hash?.matches() === false) {
      throw damaged(file, 'its contents do not match their checksum')
    }
  }

  /** Writes the next plain bytes and serves them. */
  async function append(out: number, piece: Buffer): Promise<void> {
    if (size !== undefined && decoded + piece.length > size) {
      throw damaged(file, `it decodes to more than the ${size} bytes that the backup lists`)
    }
    await spoolWork(path, () => writeAll(out, piece, decoded))
    decoded += piece.length
    waiters.reached(decoded, out)
  }

  async function run(): Promise<void> {
    const out = await spoolWork(path, () => openFile(part, 'w+', 0o600))
    fd = out
    await decodeInto(out)
    await spoolWork(path, async () => {
      await syncFile(out)
      await renameFile(part, path)
    })
    complete = true
    waiters.complete(out)
  }

  /** Closes the descriptor once no reader has it. */
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
    waiters.fail(failure)
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
        const isDecoded = bytes <= decoded || complete
        return fd !== undefined && isDecoded ? fd : await waiters.wait(bytes, signal)
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
