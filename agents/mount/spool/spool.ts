/**
 * Plain bytes of stored files, whatever it takes to decode them.
 *
 * How a read passes through this folder: plain-reader.ts identifies the stored file (stored-identity.ts) and chooses one
 * of four ways. What needs no decoding is read in place (in-place-reader.ts). What is small is decoded in memory
 * (decode-whole.ts). What is only encrypted is decrypted by ranges (encrypted-reader.ts). What is large is decoded once
 * into a file of the spool's directory (decoded-files.ts, file-decode.ts), which all sessions share, which is served
 * while it is still being decoded, and which is kept across restarts until its room is needed.
 *
 * The spool owns its directory and the memory of what it decoded. It only reads the repository, and knows no format:
 * where bytes are stored and how is what a `StoredFile` says.
 */
import { mkdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import { createDescriptorCache } from '../decode/descriptor-cache.ts'
import { type StoredFile, storedFileError } from '../decode/stored-file.ts'
import { createWalCache, type WalCache } from '../wal/wal-cache.ts'
import { createTurns } from './decode-turns.ts'
import { WHOLE_MAX_BYTES } from './decode-whole.ts'
import { openDecodedFiles } from './decoded-files.ts'
import { createPlainReader } from './plain-reader.ts'
import { createIdentify } from './stored-identity.ts'

export interface SpoolOptions {
  /** Created when it does not exist, with mode 0700: it holds production data. */
  readonly directory: string
  /** Bytes of decoded files to keep; one file that is larger by itself is kept nevertheless while it is used. */
  readonly maxBytes: number
  readonly logger: Logger
}

export interface SpoolUsage {
  /** Of decoded files on disk. */
  readonly bytes: number
  /** Files that are being decoded. */
  readonly decoding: number
}

export interface Spool {
  /**
   * `length` plain bytes at `offset`; fewer only where the file ends.
   * @throws HowdahError `backup_damaged` | `repository_unavailable`; the signal's reason
   */
  read(file: StoredFile, offset: number, length: number, signal?: AbortSignal): Promise<Buffer>
  /** All plain bytes, by memory. At most `WHOLE_MAX_BYTES`. Not to be modified: others get the same ones. @throws as `read` */
  whole(file: StoredFile): Promise<Buffer>
  /** Identifies the stored file and its contents: it changes when the file does. @throws as `read` */
  key(file: StoredFile): Promise<string>
  /** Bytes of a file as it is stored. @throws as `read` */
  storedBytes(file: StoredFile): Promise<number>
  /** As `read`, of the stored bytes. */
  readStored(file: StoredFile, offset: number, length: number): Promise<Buffer>
  /** Decoded WAL, in memory of its own: a replay would push everything else out. Fails as `whole`. */
  readonly wal: WalCache
  /** For indexes that take a whole pass over a stored file, each named by the file's key; created with mode 0700. */
  readonly indexDirectory: string
  /** What the spool takes and does now. */
  readonly usage: SpoolUsage
  /** Stops decoding, removes what is incomplete, and closes files. Reads under way fail. */
  close(): Promise<void>
}

/** Of decoded WAL: what is kept, and what of it may be ahead of the replays. */
const WAL_BYTES = 192 * 1024 * 1024
const WAL_PREFETCH_BYTES = 128 * 1024 * 1024
/** WAL decoded ahead at once: Node's pool has four threads, and one stays free for reads of pages. */
const WAL_CONCURRENCY = Math.min(3, availableParallelism())
const DESCRIPTORS = 512
/** A decode without readers starts a turn only after no reader has waited for this long. */
const QUIET_MS = 1000

export function createSpool({ directory, maxBytes, logger }: SpoolOptions): Spool {
  const descriptors = createDescriptorCache(DESCRIPTORS)
  const identify = createIdentify(descriptors)
  const turns = createTurns(availableParallelism(), QUIET_MS)
  const decodedFiles = openDecodedFiles({ directory, maxBytes, descriptors, turns, logger })
  const indexDirectory = join(directory, 'index')
  mkdirSync(indexDirectory, { recursive: true, mode: 0o700 })
  const plain = createPlainReader(descriptors, identify, decodedFiles)
  let closed = false

  const stopping = () => new HowdahError('repository_unavailable', 'the mount agent is stopping')
  function assertOpen(): void {
    if (closed) throw stopping()
  }

  const wal = createWalCache({
    key: async (file) => {
      assertOpen()
      return (await identify(file)).key
    },
    decode: plain.decode,
    fileBytes: WHOLE_MAX_BYTES,
    maxBytes: WAL_BYTES,
    prefetchBytes: WAL_PREFETCH_BYTES,
    concurrency: WAL_CONCURRENCY,
  })

  /** Gives what `work` throws the error code of its cause. */
  async function withCode<T>(file: StoredFile, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw storedFileError(error, file)
    }
  }

  return {
    async read(file, offset, length, signal) {
      assertOpen()
      signal?.throwIfAborted()
      return withCode(file, () => plain.read(file, offset, length, signal))
    },
    async whole(file) {
      assertOpen()
      return withCode(file, () => plain.whole(file))
    },
    key: async (file) => (await identify(file)).key,
    storedBytes: async (file) => (await identify(file)).length,
    async readStored(file, offset, length) {
      assertOpen()
      return withCode(file, () => plain.readStored(file, offset, length))
    },
    wal: { ...wal, use: (file, take) => withCode(file, () => wal.use(file, take)) },
    indexDirectory,
    get usage() {
      return decodedFiles.usage
    },
    async close() {
      closed = true
      await decodedFiles.close(stopping())
      await descriptors.close()
    },
  }
}
