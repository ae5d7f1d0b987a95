/**
 * Decoded WAL files in memory, one cache for all sessions of an agent: what is asked for, and what will be asked for
 * soon. Each is decoded once at a time. What is asked for goes before everything that is decoded ahead; that has a
 * budget of its own, so that several replays together take no more memory than one.
 */
import { freeBuffer, isFreed } from '../../dataplane/protocol/freed-buffers.ts'
import type { StoredFile } from '../decode/stored-file.ts'

export interface WalCacheOptions {
  /** Tells a stored file from every other. */
  readonly key: (file: StoredFile) => Promise<string>
  /** All plain bytes, at most `maxBytes`; the buffer is the cache's own from then on. */
  readonly decode: (file: StoredFile, maxBytes: number) => Promise<Buffer>
  /** The largest WAL file. Bytes. */
  readonly fileBytes: number
  /** Bytes to keep; what is being decoded because somebody waits for it comes on top. */
  readonly maxBytes: number
  /** Bytes of what was decoded ahead, or is being, and was not asked for yet. */
  readonly prefetchBytes: number
  /** Decoded ahead at once. */
  readonly concurrency: number
  /** Milliseconds. */
  readonly clock?: () => number
}

export interface WalCache {
  /**
   * Calls `take` with all of it, once it is there. The bytes are the cache's: not to be modified, and gone any time after
   * `take` has returned. @throws as `decode`, and what `take` throws
   */
  use<T>(file: StoredFile, take: (contents: Buffer) => T): Promise<T>
  /**
   * Has it decoded for whoever asks for it next; how that ends is told to nobody.
   * @param bytes what it decodes to at most
   * @returns false when the budget has no room for it now
   */
  prefetch(file: StoredFile, bytes: number): Promise<boolean>
}

interface Entry {
  readonly file: StoredFile
  /** Resolved by `start`. */
  readonly contents: PromiseWithResolvers<Buffer>
  /** What it takes, or may take. */
  bytes: number
  state: 'queued' | 'decoding' | 'done'
  /** Once it is done. */
  decoded?: Buffer
  /** Somebody asked for it. */
  requested: boolean
  /** When it was made. */
  readonly at: number
}

/** Whoever would have asked for it has gone elsewhere, or is gone. */
const ABANDONED_MS = 60_000

export function createWalCache(options: WalCacheOptions): WalCache {
  const { decode, fileBytes, maxBytes, prefetchBytes, concurrency, clock = Date.now } = options
  /** Longest unused first. */
  const entries = new Map<string, Entry>()
  let prefetching = 0

  function add(key: string, file: StoredFile, bytes: number, requested: boolean): Entry {
    const contents = Promise.withResolvers<Buffer>()
    // What fails is asked for again by whoever needs it, and fails there.
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

  /** What was asked for goes first, then what nobody came for. @param keep is not dropped */
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
    // A failure of then need not be one of now.
    return entry.contents.promise.catch(() => read(file))
  }

  return {
    async use(file, take) {
      for (;;) {
        const contents = await read(file)
        // Or others took its room just now.
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
