/**
 * Decoded WAL files in memory, one cache for all sessions of an agent: those that are requested, and those that are
 * prefetched. Each is decoded once at a time. Requests take precedence over prefetching, which has a budget of its own,
 * so that several replays together take no more memory than one.
 */
import { freeBuffer, isFreed } from '../../dataplane/protocol/freed-buffers.ts'
import type { StoredFile } from '../decode/stored-file.ts'

export interface WalCacheOptions {
  /** Identifies a stored file and its contents. */
  readonly key: (file: StoredFile) => Promise<string>
  /** All plain bytes, at most `maxBytes`; the cache takes over the buffer. */
  readonly decode: (file: StoredFile, maxBytes: number) => Promise<Buffer>
  /** The largest WAL file. Bytes. */
  readonly fileBytes: number
  /** Bytes to keep, in addition to what is being decoded for a request. */
  readonly maxBytes: number
  /** Bytes of files that are or are being prefetched, and were not requested yet. */
  readonly prefetchBytes: number
  /** Prefetches that run concurrently. */
  readonly concurrency: number
  /** Milliseconds. */
  readonly clock?: () => number
}

export interface WalCache {
  /**
   * Calls `take` with all plain bytes once they are decoded. The bytes are the cache's: not to be modified, and invalid
   * as soon as `take` has returned.
   * @throws as `decode`, and what `take` throws
   */
  use<T>(file: StoredFile, take: (contents: Buffer) => T): Promise<T>
  /**
   * Decodes it ahead of the next request; a failure is not reported.
   * @param bytes the most that it decodes to
   * @returns false when the budget has no room for it at present
   */
  prefetch(file: StoredFile, bytes: number): Promise<boolean>
}

interface Entry {
  readonly file: StoredFile
  /** Resolved by `start`. */
  readonly contents: PromiseWithResolvers<Buffer>
  /** Its plain size, or the most that it may be. */
  bytes: number
  state: 'queued' | 'decoding' | 'done'
  /** When it is done. */
  decoded?: Buffer
  /** Whether it was requested; otherwise it was only prefetched. */
  requested: boolean
  /** When it was added. */
  readonly at: number
}

/** After this time a prefetched file is no longer expected to be requested. */
const ABANDONED_MS = 60_000

export function createWalCache(options: WalCacheOptions): WalCache {
  const { decode, fileBytes, maxBytes, prefetchBytes, concurrency, clock = Date.now } = options
  /** Least recently used first. */
  const entries = new Map<string, Entry>()
  let prefetching = 0

  function add(key: string, file: StoredFile, bytes: number, requested: boolean): Entry {
    const contents = Promise.withResolvers<Buffer>()
    // A failure is reported by the next request, which decodes the file again.
    contents.promise.catch(() => undefined)
    const entry: Entry = { file, contents, bytes, state: 'queued', requested, at: clock() }
    entries.set(key, entry)
    return entry
  }

  async function start(key: string, entry: Entry): Promise<void> {
    const limit = entry.requested ? fileBytes : entry.bytes
    entry.state = 'decoding'
    try {
      const contents = await decode(entry.file, limit)
      entry.state = 'done'
      entry.bytes = contents.length
      entry.decoded = contents
      entry.contents.resolve(contents)
      makeRoom(key)
    } catch (error) {
      if (entries.get(key) === entry) entries.delete(key)
      entry.contents.reject(error)
    }
  }

  function startPrefetches(): void {
    for (const [key, entry] of entries) {
      if (prefetching >= concurrency) return
      if (entry.state !== 'queued') continue
      prefetching += 1
      void start(key, entry).finally(() => {
        prefetching -= 1
        startPrefetches()
      })
    }
  }

  /**
   * Drops files that were requested first, then those that were only prefetched.
   * @param keep key of an entry that is not dropped
   */
  function makeRoom(keep: string): void {
    let total = sum(({ state }) => state === 'done')
    for (const onlyRequested of [true, false]) {
      for (const [key, entry] of entries) {
        if (total <= maxBytes) return
        if (key === keep || entry.state !== 'done' || (onlyRequested && !entry.requested)) continue
        drop(key, entry)
        total -= entry.bytes
      }
    }
  }

  function dropAbandoned(): void {
    const before = clock() - ABANDONED_MS
    for (const [key, entry] of entries) {
      if (!entry.requested && entry.state !== 'decoding' && entry.at < before) drop(key, entry)
    }
  }

  function drop(key: string, { decoded }: Entry): void {
    entries.delete(key)
    if (decoded !== undefined) freeBuffer(decoded)
  }

  function sum(which: (entry: Entry) => boolean): number {
    let total = 0
    for (const entry of entries.values()) if (which(entry)) total += entry.bytes
    return total
  }

  async function read(file: StoredFile): Promise<Buffer> {
    const key = await options.key(file)
    const known = entries.get(key)
    const prefetched = known !== undefined && !known.requested
    const entry = known ?? add(key, file, fileBytes, true)
    entry.requested = true
    entries.delete(key)
    entries.set(key, entry)
    if (entry.state === 'queued') void start(key, entry)
    if (!prefetched) return entry.contents.promise
    // An earlier failure may have had a temporary cause: decode it again.
    return entry.contents.promise.catch(() => read(file))
  }

  return {
    async use(file, take) {
      for (;;) {
        const contents = await read(file)
        // Otherwise it was dropped since, to make room.
        if (!isFreed(contents)) return take(contents)
      }
    },
    async prefetch(file, bytes) {
      const key = await options.key(file)
      if (entries.has(key)) return true
      const isPrefetched = (entry: Entry) => !entry.requested
      if (sum(isPrefetched) + bytes > prefetchBytes) dropAbandoned()
      if (sum(isPrefetched) + bytes > prefetchBytes) return false
      add(key, file, bytes, false)
      startPrefetches()
      return true
    },
  }
}
