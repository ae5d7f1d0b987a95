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
import { HowdahError } from '../../messages/errors.ts'
import { decompress } from './decode/decompress.ts'
import { createDescriptorCache, readAt } from './decode/descriptor-cache.ts'
import { damaged, type StoredFile, storedFileError } from './decode/stored-file.ts'
import { type Decode, startDecode } from './spool-decode.ts'
import { createInPlaceReader } from './spool-in-place.ts'
import { createMemoryCache } from './spool-memory.ts'
import { createTurns } from './spool-turns.ts'

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
  /** Stops decoding, drops what is incomplete, and closes files. Reads under way fail. */
  close(): Promise<void>
}

/** The largest WAL segment that PostgreSQL knows is 1 GiB. */
export const WHOLE_MAX_BYTES = 1024 ** 3

/** Larger compressed files go through the directory. */
const SMALL_BYTES = 1024 * 1024
const MEMORY_BYTES = 192 * 1024 * 1024
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
  const memory = createMemoryCache(MEMORY_BYTES)
  const turns = createTurns(availableParallelism(), QUIET_MS)
  const identities = new WeakMap<StoredFile, Promise<Identity>>()
  const inPlace = createInPlaceReader({
    descriptors,
    storedBytes: async (file) => (await identify(file)).length,
    whole: async (file) => decodeWhole(file, await identify(file)),
    checkedBytes: SMALL_BYTES,
  })
  // In the order of last use.
  const entries = new Map<string, Entry>()
  let bytes = 0
  let decodes = 0
  let closed = false

  adoptDirectory()

  function adoptDirectory(): void {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
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

  function evict(key: string, entry: Entry): void {
    removeEntry(key, entry)
    if (entry.decode === undefined) {
      descriptors.forget(entry.path)
      rm(entry.path, { force: true }).catch((error: unknown) =>
        logger.warn({ error, path: entry.path }, 'a spool file cannot be removed'),
      )
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
    const { root, path, offset, length, wholeFile } = file.region
    // Whoever opens a backup sees it as it is now, not as somebody's open descriptor remembers it.
    await descriptors.refresh(path)
    return descriptors.use(root, path, async ({ size, mtimeMs }) => {
      if (wholeFile && length !== undefined && size !== length) {
        throw damaged(file, `it takes ${size} bytes where the backup lists ${length}`)
      }
      const stored = length ?? size - offset
      if (stored < 0 || offset + stored > size) {
        throw damaged(file, `it should end at ${offset + stored} where its file has ${size} bytes`)
      }
      const identity = [path, size, mtimeMs, offset, stored, file.transforms, file.size, file.sha1]
      return {
        key: createHash('sha256').update(JSON.stringify(identity)).digest('hex'),
        length: stored,
      }
    })
  }

  const readStored = (file: StoredFile, offset: number, length: number) =>
    descriptors.use(file.region.root, file.region.path, ({ fd }) =>
      readAt(fd, file.region.offset + offset, length),
    )

  async function decodeWhole(file: StoredFile, identity: Identity): Promise<Buffer> {
    if (identity.length > WHOLE_MAX_BYTES) throw damaged(file, `${identity.length} bytes are too large`)
    let contents = await readStored(file, 0, identity.length)
    if (contents.length !== identity.length) throw damaged(file, 'its file became shorter')
    for (const transform of file.transforms) {
      contents = await decompress(transform.compression, contents, file.size ?? WHOLE_MAX_BYTES)
    }
    if (file.size !== undefined && contents.length !== file.size) {
      throw damaged(file, `it decodes to ${contents.length} bytes where the backup lists ${file.size}`)
    }
    if (file.sha1 !== undefined && createHash('sha1').update(contents).digest('hex') !== file.sha1) {
      throw damaged(file, 'its contents do not match their checksum')
    }
    return contents
  }

  async function whole(file: StoredFile): Promise<Buffer> {
    const identity = await identify(file)
    return memory.get(identity.key, () => decodeWhole(file, identity))
  }

  function startEntry(key: string, file: StoredFile, size: number): Entry {
    makeRoom(size)
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
    const decode = startDecode(file, size, { turns, descriptors, path, part })
    const entry = addEntry(key, { path, size, decode })
    void decode.settled.then(() => {
      if (decode.complete) entry.decode = undefined
      else if (entries.get(key) === entry) {
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
  function entryFor(key: string, file: StoredFile, size: number): Entry {
    let entry = entries.get(key)
    if (entry?.failedAt !== undefined) {
      const failure = entry.decode?.failure
      const lasting = failure instanceof HowdahError && failure.code === 'backup_damaged'
      if (lasting && Date.now() - entry.failedAt < FAILURE_KEPT_MS) throw failure
      removeEntry(key, entry)
      entry = undefined
    }
    if (entry === undefined) return startEntry(key, file, size)
    entries.delete(key)
    entries.set(key, entry)
    return entry
  }

  async function readSpooled(
    file: StoredFile,
    size: number,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { key } = await identify(file)
    const entry = entryFor(key, file, size)
    const decode = entry.decode
    entry.users += 1
    try {
      if (decode === undefined || decode.complete) {
        const read = await descriptors.use(directory, entry.path, ({ fd }) => readAt(fd, offset, length))
        if (read.length === length) return read
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

  function assertOpen(): void {
    if (closed) throw new HowdahError('repository_unavailable', 'the mount agent is stopping')
  }

  return {
    async read(file, offset, length, signal) {
      assertOpen()
      signal?.throwIfAborted()
      try {
        if (file.transforms.length === 0) return await inPlace.read(file, offset, length)
        if (file.size === undefined || file.size <= SMALL_BYTES) {
          return (await whole(file)).subarray(offset, offset + length)
        }
        const wanted = Math.max(0, Math.min(length, file.size - offset))
        if (wanted === 0) return Buffer.alloc(0)
        return await readSpooled(file, file.size, offset, wanted, signal)
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
