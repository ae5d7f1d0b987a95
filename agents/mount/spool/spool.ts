/**
 * Plain bytes of stored files, whatever they take to decode.
 *
 * What needs no decoding is read in place. What is small is decoded in memory. What is large is decoded once into a
 * file of the spool directory, shared by all sessions, served while it is still being decoded, and kept over restarts
 * until its room is needed. The spool owns its directory; the repository is only read.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { HowdahError } from '../../../messages/errors.ts'
import { freeBuffer } from '../../dataplane/protocol/freed-buffers.ts'
import { createBoundedCache } from '../bounded-cache.ts'
import { checksumOf, matchesChecksumInPieces } from '../decode/checksum.ts'
import { createDescriptorCache, readAt } from '../decode/descriptor-cache.ts'
import { damaged, type StoredFile, storedFileError } from '../decode/stored-file.ts'
import { decodeAll } from '../decode/transform.ts'
import { createWalCache, type WalCache } from '../wal/wal-cache.ts'
import { createTurns } from './decode-turns.ts'
import { createEncryptedReader, onlyEncrypted } from './encrypted-reader.ts'
import { type Decode, startDecode } from './file-decode.ts'
import { createInPlaceReader } from './in-place-reader.ts'
import { type CheckedFile, createWholeChecks } from './whole-checks.ts'

export interface SpoolOptions {
  /** Made when it does not exist, with mode 0700: it holds production data. */
  readonly directory: string
  /** Bytes of decoded files to keep; one file that is larger by itself is kept nevertheless while it is used. */
  readonly maxBytes: number
  readonly logger: Logger
}

export interface Spool {
  /**
   * `length` plain bytes at `offset`; fewer only where the file ends.
   * @throws HowdahError `backup_damaged` | `repository_unavailable`; the signal's reason
   */
  read(file: StoredFile, offset: number, length: number, signal?: AbortSignal): Promise<Buffer>
  /** All plain bytes, by memory. At most `WHOLE_MAX_BYTES`. Not to be modified: others get the same ones. @throws as `read` */
  whole(file: StoredFile): Promise<Buffer>
  /** Tells the stored file from every other, and from what it was before it changed. @throws as `read` */
  key(file: StoredFile): Promise<string>
  /** Bytes of a file as it is stored. @throws as `read` */
  storedBytes(file: StoredFile): Promise<number>
  /** As `read`, of the stored bytes. */
  readStored(file: StoredFile, offset: number, length: number): Promise<Buffer>
  /** Decoded WAL, in memory of its own: a replay would push everything else out. Fails as `whole`. */
  readonly wal: WalCache
  /** For what takes a whole pass over a stored file to know, each file named by its key; made with mode 0700. */
  readonly indexDirectory: string
  /** Stops decoding, drops what is incomplete, and closes files. Reads under way fail. */
  close(): Promise<void>
}

/** The largest WAL segment that PostgreSQL knows is 1 GiB. */
export const WHOLE_MAX_BYTES = 1024 ** 3

/** Larger compressed files go through the directory. */
const SMALL_BYTES = 1024 * 1024
const MEMORY_BYTES = 192 * 1024 * 1024
/** Of decoded WAL: what is kept, and what of it may be ahead of those who replay it. */
const WAL_BYTES = 192 * 1024 * 1024
const WAL_AHEAD_BYTES = 128 * 1024 * 1024
/** WAL decoded ahead at once: Node's pool has four threads, and one is for those who wait for a page. */
const WAL_AT_ONCE = Math.min(3, availableParallelism())
const DESCRIPTORS = 512
/** Decodes that are kept open at once; beyond it one that nobody waits for is dropped. */
const MAX_DECODES = 64
const QUIET_MS = 1000
/** A file found damaged is not decoded again for every read of it. */
const FAILURE_KEPT_MS = 10_000

const SUFFIX = '.plain'

interface Identity {
  readonly key: string
  /** Of the stored bytes. */
  readonly length: number
}

/** One file of the directory, complete or being decoded. */
interface Entry {
  readonly path: string
  /** Bytes that it takes in the directory. */
  size: number
  decode: Decode | undefined
  failedAt: number | undefined
  users: number
}

export function createSpool(options: SpoolOptions): Spool {
  const { directory, maxBytes, logger } = options
  const descriptors = createDescriptorCache(DESCRIPTORS)
  const memory = createBoundedCache<string, Buffer>(MEMORY_BYTES, ({ length }) => length)
  const turns = createTurns(availableParallelism(), QUIET_MS)
  const identities = new WeakMap<StoredFile, Promise<Identity>>()
  const inPlace = createInPlaceReader({
    descriptors,
    storedBytes: async (file) => (await identify(file)).length,
    whole: async (file) => decodeWhole(file, await identify(file)),
    checkedBytes: SMALL_BYTES,
  })
  const wholeChecks = createWholeChecks()
  const checkedFiles = new WeakMap<StoredFile, CheckedFile>()
  const encrypted = createEncryptedReader({
    storedBytes: async (file) => (await identify(file)).length,
    readStored: (file, offset, length) => readStored(file, offset, length),
  })
  // In the order of last use.
  const entries = new Map<string, Entry>()
  let bytes = 0
  let decodes = 0
  let closed = false

  const indexDirectory = join(directory, 'index')

  adoptDirectory()

  function adoptDirectory(): void {
    mkdirSync(indexDirectory, { recursive: true, mode: 0o700 })
    const found = readdirSync(directory)
      .filter((name) => /^[0-9a-f]{64}\.(plain|\d+\.part)$/.test(name))
      .map((name) => ({ name, stat: statSync(join(directory, name)) }))
      .sort((a, b) => a.stat.mtimeMs - b.stat.mtimeMs)
    for (const { name, stat } of found) {
      const path = join(directory, name)
      if (!name.endsWith(SUFFIX)) rmSync(path, { force: true })
      else addEntry(name.slice(0, -SUFFIX.length), { path, size: stat.size, decode: undefined })
    }
    makeRoom(0)
  }

  function addEntry(key: string, made: Pick<Entry, 'path' | 'size' | 'decode'>): Entry {
    const entry: Entry = { ...made, failedAt: undefined, users: 0 }
    entries.set(key, entry)
    bytes += entry.size
    return entry
  }

  function removeEntry(key: string, entry: Entry): void {
    if (entries.get(key) !== entry) return
    entries.delete(key)
    bytes -= entry.size
  }

  /** Drops the least recently used files until `more` bytes fit. */
  function makeRoom(more: number): void {
    for (const [key, entry] of entries) {
      if (bytes + more <= maxBytes) return
      if (entry.users > 0 || entry.decode?.busy === true) continue
      evict(key, entry)
    }
  }

  function removeFile(path: string): void {
    rm(path, { force: true }).catch((error: unknown) =>
      logger.warn({ error, path }, 'a spool file cannot be removed'),
    )
  }

  function evict(key: string, entry: Entry): void {
    removeEntry(key, entry)
    if (entry.decode === undefined) {
      descriptors.forget(entry.path)
      removeFile(entry.path)
    } else {
      entry.decode.cancel(new HowdahError('repository_unavailable', 'the spool needed the room'))
    }
  }

  function identify(file: StoredFile): Promise<Identity> {
    const known = identities.get(file)
    if (known !== undefined) return known
    const made = readIdentity(file)
    identities.set(file, made)
    made.catch(() => identities.delete(file))
    return made
  }

  async function readIdentity(file: StoredFile): Promise<Identity> {
    const { path, offset, length, wholeFile } = file.region
    // Whoever opens a backup sees it as it is now, not as somebody's open descriptor remembers it.
    await descriptors.refresh(path)
    if (file.within !== undefined) {
      const { key } = await identify(file.within)
      return {
        key: hashed([key, offset, length, file.transforms, file.size, checksumOf(file)]),
        length: length ?? 0,
      }
    }
    return descriptors.use(file.region, path, async ({ size, mtimeMs }) => {
      if (wholeFile && length !== undefined && size !== length) {
        throw damaged(file, `it takes ${size} bytes where the backup lists ${length}`)
      }
      const stored = length ?? size - offset
      if (stored < 0 || offset + stored > size) {
        throw damaged(file, `it should end at ${offset + stored} where its file has ${size} bytes`)
      }
      const identity = [path, size, mtimeMs, offset, stored, file.transforms, file.size, checksumOf(file)]
      return { key: hashed(identity), length: stored }
    })
  }

  const readStored = (file: StoredFile, offset: number, length: number, signal?: AbortSignal) =>
    file.within === undefined
      ? descriptors.use(file.region, file.region.path, ({ fd }) =>
          readAt(fd, file.region.offset + offset, length),
        )
      : readAny(file.within, file.region.offset + offset, length, signal)

  async function decodeWhole(
    file: StoredFile,
    identity: Identity,
    maxBytes = WHOLE_MAX_BYTES,
  ): Promise<Buffer> {
    if (identity.length > WHOLE_MAX_BYTES) throw damaged(file, `${identity.length} bytes are too large`)
    let contents = await readStored(file, 0, identity.length)
    if (contents.length !== identity.length) throw damaged(file, 'its file became shorter')
    // What lies within another file may be part of what others have.
    let own = file.within === undefined
    for (const transform of file.transforms) {
      const before = contents
      contents = await decodeAll(transform, before, file.size ?? maxBytes)
      if (own && contents.buffer !== before.buffer) freeBuffer(before)
      own = true
    }
    if (file.size !== undefined && contents.length !== file.size) {
      throw damaged(file, `it decodes to ${contents.length} bytes where the backup lists ${file.size}`)
    }
    if (!(await matchesChecksumInPieces(file, contents))) {
      throw damaged(file, 'its contents do not match their checksum')
    }
    return contents
  }

  async function whole(file: StoredFile): Promise<Buffer> {
    const identity = await identify(file)
    return memory.get(identity.key, () => decodeWhole(file, identity))
  }

  const wal = createWalCache({
    key: async (file) => {
      assertOpen()
      return (await identify(file)).key
    },
    decode: async (file, limit) => decodeWhole(file, await identify(file), limit),
    fileBytes: WHOLE_MAX_BYTES,
    maxBytes: WAL_BYTES,
    aheadBytes: WAL_AHEAD_BYTES,
    atOnce: WAL_AT_ONCE,
  })

  function startEntry(key: string, file: StoredFile): Entry {
    const { size } = file
    makeRoom(size ?? 0)
    const running = [...entries].filter(([, { decode }]) => decode !== undefined)
    for (const [other, entry] of running) {
      if (running.length < MAX_DECODES) break
      if (entry.decode?.busy === true || entry.users > 0) continue
      evict(other, entry)
      break
    }
    const path = join(directory, `${key}${SUFFIX}`)
    decodes += 1
    const part = join(directory, `${key}.${decodes}.part`)
    const grown = (decoded: number) => {
      if (size !== undefined || entries.get(key) !== entry) return
      bytes += decoded - entry.size
      entry.size = decoded
      makeRoom(0)
    }
    const decode = startDecode(file, size, { turns, descriptors, path, part, grown })
    const entry = addEntry(key, { path, size: size ?? 0, decode })
    void decode.settled.then(() => {
      if (decode.complete) {
        entry.decode = undefined
        // It was given up in the moment in which it became complete, and nobody knows of the file.
        if (!entries.has(key)) removeFile(path)
      } else if (entries.get(key) === entry) {
        bytes -= entry.size
        entry.size = 0
        entry.failedAt = Date.now()
        if (!closed) {
          logger.warn({ err: decode.failure, file: file.description }, 'a file of a backup does not decode')
        }
      }
    })
    return entry
  }

  /** The entry to read from. A failure is told for a while, then tried again. */
  function entryFor(key: string, file: StoredFile): Entry {
    let entry = entries.get(key)
    if (entry?.failedAt !== undefined) {
      const failure = entry.decode?.failure
      const lasting = failure instanceof HowdahError && failure.code === 'backup_damaged'
      if (lasting && Date.now() - entry.failedAt < FAILURE_KEPT_MS) throw failure
      removeEntry(key, entry)
      entry = undefined
    }
    if (entry === undefined) return startEntry(key, file)
    entries.delete(key)
    entries.set(key, entry)
    return entry
  }

  async function readSpooled(
    file: StoredFile,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { key } = await identify(file)
    const entry = entryFor(key, file)
    const decode = entry.decode
    entry.users += 1
    try {
      if (decode === undefined || decode.complete) {
        const expected = Math.max(0, Math.min(length, entry.size - offset))
        const read = await descriptors.use({ root: directory }, entry.path, ({ fd }) =>
          readAt(fd, offset, expected),
        )
        if (read.length === expected) return read
        evict(key, entry)
        throw new HowdahError('repository_unavailable', `the spool file ${entry.path} was cut short`)
      }
      const fd = await decode.wait(offset + length, signal)
      try {
        return await readAt(fd, offset, length)
      } finally {
        decode.release()
      }
    } finally {
      entry.users -= 1
    }
  }

  /** Smaller ones are checked before the first read, others by the way. */
  function checkedPart(file: StoredFile, offset: number, part: Buffer): Buffer {
    const { size } = file
    if (size === undefined || size <= SMALL_BYTES) return part
    let checked = checkedFiles.get(file)
    if (checked === undefined) {
      const checksum = checksumOf(file)
      if (checksum === undefined) return part
      checked = { size, checksum }
      checkedFiles.set(file, checked)
    }
    if (wholeChecks.take(checked, offset, part)) return part
    throw damaged(file, 'its contents do not match their checksum')
  }

  async function readAny(
    file: StoredFile,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { transforms, size, within } = file
    if (transforms.length === 0 && within === undefined) {
      return checkedPart(file, offset, await inPlace.read(file, offset, length))
    }
    const isSmall = size !== undefined && size <= SMALL_BYTES
    if (isSmall && (transforms.length > 0 || checksumOf(file) !== undefined)) {
      return (await whole(file)).subarray(offset, offset + length)
    }
    const wanted = size === undefined ? length : Math.max(0, Math.min(length, size - offset))
    if (wanted === 0) return Buffer.alloc(0)
    const decryption = onlyEncrypted(file)
    if (decryption !== undefined) {
      return checkedPart(file, offset, await encrypted.read(file, decryption, offset, wanted))
    }
    if (transforms.length > 0) return readSpooled(file, offset, wanted, signal)
    const read = await readStored(file, offset, wanted, signal)
    if (size !== undefined && read.length < wanted) throw damaged(file, `it ends before ${offset + wanted}`)
    return checkedPart(file, offset, read)
  }

  function assertOpen(): void {
    if (closed) throw new HowdahError('repository_unavailable', 'the mount agent is stopping')
  }

  return {
    async read(file, offset, length, signal) {
      assertOpen()
      signal?.throwIfAborted()
      try {
        return await readAny(file, offset, length, signal)
      } catch (error) {
        throw storedFileError(error, file)
      }
    },
    async whole(file) {
      assertOpen()
      try {
        return await whole(file)
      } catch (error) {
        throw storedFileError(error, file)
      }
    },
    key: async (file) => (await identify(file)).key,
    storedBytes: async (file) => (await identify(file)).length,
    async readStored(file, offset, length) {
      assertOpen()
      try {
        return await readStored(file, offset, length)
      } catch (error) {
        throw storedFileError(error, file)
      }
    },
    wal: {
      ...wal,
      async use(file, take) {
        try {
          return await wal.use(file, take)
        } catch (error) {
          throw storedFileError(error, file)
        }
      },
    },
    indexDirectory,
    async close() {
      closed = true
      const running = [...entries.values()].flatMap(({ decode }) => decode ?? [])
      for (const decode of running) {
        decode.cancel(new HowdahError('repository_unavailable', 'the mount agent is stopping'))
      }
      await Promise.all(running.map(({ settled }) => settled))
      await descriptors.close()
    },
  }
}

const hashed = (identity: readonly unknown[]) =>
  createHash('sha256').update(JSON.stringify(identity)).digest('hex')
