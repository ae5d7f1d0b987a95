/**
 * Reads of large files by way of the spool's directory: each is decoded once into a plain file there, and served while
 * that grows. Owns the directory (by spool-entries.ts); never touches the repository.
 *
 * A key passes through these states: absent → decoding → complete, or decoding → failed, which a later read retries.
 * Eviction leads from any of them to absent.
 */
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import { type DescriptorCache, readAt } from '../decode/descriptor-cache.ts'
import type { StoredFile } from '../decode/stored-file.ts'
import type { Turns } from './decode-turns.ts'
import { type Decode, startDecode } from './file-decode.ts'
import { type Entry, openSpoolEntries } from './spool-entries.ts'

export interface DecodedFilesOptions {
  /** Created when it does not exist, with mode 0700: it holds production data. */
  readonly directory: string
  /** Bytes of decoded files to keep; one file that is larger by itself is kept nevertheless while it is used. */
  readonly maxBytes: number
  readonly descriptors: DescriptorCache
  readonly turns: Turns
  readonly logger: Logger
  /** Milliseconds. */
  readonly clock?: () => number
}

export interface DecodedFiles {
  /**
   * `length` plain bytes at `offset`, as soon as they are decoded; fewer only where the file ends.
   * @param key identifies the stored file and its contents
   * @throws HowdahError `backup_damaged` | `repository_unavailable`; errors of system calls as they are; the signal's reason
   */
  read(
    key: string,
    file: StoredFile,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer>
  /** Bytes of decoded files, and files that are being decoded. */
  readonly usage: { readonly bytes: number; readonly decoding: number }
  /** Cancels every decode with `reason` and waits until their part files are removed. */
  close(reason: Error): Promise<void>
}

/** Decodes that are kept open at once; beyond it one without readers is cancelled. */
const MAX_DECODES = 64
/** A file found damaged is not decoded again for every read of it. */
const FAILURE_KEPT_MS = 10_000

export function openDecodedFiles(options: DecodedFilesOptions): DecodedFiles {
  const { directory, descriptors, turns, logger, clock = Date.now } = options
  const entries = openSpoolEntries(options)
  let closed = false

  function startEntry(key: string, file: StoredFile): Entry {
    const { size } = file
    entries.makeRoom(size ?? 0)
    entries.limitDecodes(MAX_DECODES)
    const path = entries.pathOf(key)
    const grown = (decoded: number) => {
      if (size === undefined && entries.resize(key, entry, decoded)) entries.makeRoom(0)
    }
    const decode = startDecode(file, size, { turns, descriptors, path, part: entries.partOf(key), grown })
    const entry = entries.add(key, { path, size: size ?? 0, decode })
    void decode.settled.then(() => settle(key, entry, decode, file))
    return entry
  }

  /** The outcome of a decode, which may come after its entry was evicted. */
  function settle(key: string, entry: Entry, decode: Decode, file: StoredFile): void {
    if (decode.complete) {
      entry.decode = undefined
      // It was evicted at the moment in which it became complete: no entry names its file any more.
      if (!entries.has(key)) entries.removeFile(entry.path)
    } else if (entries.resize(key, entry, 0)) {
      entry.failedAt = clock()
      if (!closed) {
        logger.warn({ err: decode.failure, file: file.description }, 'a file of a backup does not decode')
      }
    }
  }

  /** The entry to read from, started where there is none. A recent `backup_damaged` is thrown without a retry. */
  function entryFor(key: string, file: StoredFile): Entry {
    const entry = entries.get(key)
    if (entry === undefined) return startEntry(key, file)
    if (entry.failedAt === undefined) return entry
    const failure = entry.decode?.failure
    const isLasting = failure instanceof HowdahError && failure.code === 'backup_damaged'
    if (isLasting && clock() - entry.failedAt < FAILURE_KEPT_MS) throw failure
    entries.remove(key, entry)
    return startEntry(key, file)
  }

  async function readComplete(key: string, entry: Entry, offset: number, length: number): Promise<Buffer> {
    const expected = Math.max(0, Math.min(length, entry.size - offset))
    const read = await descriptors.use({ root: directory }, entry.path, ({ fd }) =>
      readAt(fd, offset, expected),
    )
    if (read.length === expected) return read
    entries.evict(key, entry)
    throw new HowdahError('repository_unavailable', `the spool file ${entry.path} was cut short`)
  }

  async function readGrowing(
    decode: Decode,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const fd = await decode.wait(offset + length, signal)
    try {
      return await readAt(fd, offset, length)
    } finally {
      decode.release()
    }
  }

  return {
    async read(key, file, offset, length, signal) {
      const entry = entryFor(key, file)
      const { decode } = entry
      entry.users += 1
      try {
        return decode === undefined || decode.complete
          ? await readComplete(key, entry, offset, length)
          : await readGrowing(decode, offset, length, signal)
      } finally {
        entry.users -= 1
      }
    },
    get usage() {
      const running = entries.decodes().filter(({ complete, failure }) => !complete && failure === undefined)
      return { bytes: entries.bytes, decoding: running.length }
    },
    async close(reason) {
      closed = true
      const running = entries.decodes()
      for (const decode of running) decode.cancel(reason)
      await Promise.all(running.map(({ settled }) => settled))
    },
  }
}
