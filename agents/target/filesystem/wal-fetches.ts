/**
 * Bytes of WAL files on their way from the mount server and in memory, ahead of the one who reads: the rest of a
 * segment, then the segments after it, within bounds. Nothing is kept in the write cache.
 *
 * What is fetched ahead is a bet: that a segment is missing or damaged is forgotten here, and told to whoever asks.
 */
import type { MaybePromise } from './file-system.ts'
import type { Services } from './services.ts'

export interface WalFile {
  readonly name: string
  readonly size: number
}

export const WAL_CHUNK = 1024 * 1024
/** Bytes fetched ahead at most, and in how many segments. */
const AHEAD_BYTES = 64 * 1024 * 1024
const AHEAD_SEGMENTS = 4
/** Chunks on their way ahead at once: enough to hide a round trip, few enough that pages do not wait behind them. */
const FETCHES = 4
/** Chunks that were read to their end; the kernel asks for pieces in any order. */
const KEPT_PASSED = 8
const KEPT_CHUNKS = AHEAD_BYTES / WAL_CHUNK + KEPT_PASSED
/** Segments have a size of a power of two (access/xlog_internal.h: IsValidWalSegSize). Bytes. */
const [MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES] = [1024 ** 2, 1024 ** 3]

interface Chunk {
  readonly coming: Promise<Buffer>
  /** Once it is there. */
  bytes: Buffer | undefined
  passed: boolean
}

export class WalFetches {
  readonly #services: Pick<Services, 'walSize' | 'walRead'>
  /** By file and index, longest unused first. */
  readonly #chunks = new Map<string, Chunk>()
  /** Of the segments ahead, by name. */
  readonly #sizes = new Map<string, number>()
  #fetching = 0
  #asking = false
  /** Of what was read last. */
  #file: WalFile | undefined
  #index = 0
  /** The first segment after `#file` that is not there; asked for again once another is read. */
  #missing: string | undefined

  constructor(services: Pick<Services, 'walSize' | 'walRead'>) {
    this.#services = services
  }

  /** What is known of a segment that was looked at ahead; undefined: it must be asked for. */
  size(name: string): number | undefined {
    return this.#sizes.get(name)
  }

  /** A segment is about to be read. */
  opened(file: WalFile): void {
    if (this.#file?.name !== file.name) this.#turnTo(file, -1)
  }

  /** A chunk, for who needs it now: at once where it is there. @throws as `Services.walRead` */
  read(file: WalFile, index: number): MaybePromise<Buffer> {
    const chunk = this.#chunks.get(keyOf(file.name, index)) ?? this.#fetch(file, index)
    if (this.#file?.name !== file.name || this.#index !== index) this.#turnTo(file, index)
    return chunk.bytes ?? chunk.coming
  }

  /** A chunk was read to its end. */
  passed(file: WalFile, index: number): void {
    const key = keyOf(file.name, index)
    const chunk = this.#chunks.get(key)
    if (chunk === undefined || chunk.passed) return
    chunk.passed = true
    this.#chunks.delete(key)
    this.#chunks.set(key, chunk)
    this.#makeRoom()
  }

  #turnTo(file: WalFile, index: number): void {
    if (this.#file?.name !== file.name) {
      this.#missing = undefined
      this.#sizes.delete(file.name)
    }
    this.#file = file
    this.#index = index
    this.#fetchAhead()
  }

  #fetchAhead(): void {
    if (this.#file === undefined) return
    let [file, index] = [this.#file, this.#index + 1]
    let bytes = 0
    for (let segments = 0; segments <= AHEAD_SEGMENTS; segments++, index = 0) {
      for (; index * WAL_CHUNK < file.size; index++) {
        bytes += WAL_CHUNK
        if (bytes > AHEAD_BYTES) return
        if (this.#chunks.has(keyOf(file.name, index))) continue
        if (this.#fetching >= FETCHES) return
        this.#fetching += 1
        const fetched = () => {
          this.#fetching -= 1
          this.#fetchAhead()
        }
        this.#fetch(file, index).coming.then(fetched, () => {
          this.#fetching -= 1
        })
      }
      if (segments === AHEAD_SEGMENTS) return
      const next = segmentAfter(file)
      if (next === undefined || next === this.#missing) return
      const size = this.#sizes.get(next)
      if (size === undefined) {
        this.#ask(next)
        return
      }
      file = { name: next, size }
    }
  }

  #ask(name: string): void {
    if (this.#asking) return
    this.#asking = true
    const answered = (size: number | undefined) => {
      this.#asking = false
      if (size === undefined) this.#missing = name
      else this.#sizes.set(name, size)
      for (const oldest of this.#sizes.keys()) {
        if (this.#sizes.size <= 2 * AHEAD_SEGMENTS) break
        this.#sizes.delete(oldest)
      }
      this.#fetchAhead()
    }
    this.#services.walSize(name).then(answered, () => answered(undefined))
  }

  #fetch(file: WalFile, index: number): Chunk {
    const key = keyOf(file.name, index)
    const length = Math.min(WAL_CHUNK, file.size - index * WAL_CHUNK)
    const coming = this.#services.walRead(file.name, index * WAL_CHUNK, length)
    const chunk: Chunk = { coming, bytes: undefined, passed: false }
    this.#chunks.set(key, chunk)
    coming.then(
      (bytes) => {
        chunk.bytes = bytes
      },
      () => {
        if (this.#chunks.get(key) === chunk) this.#chunks.delete(key)
      },
    )
    this.#makeRoom()
    return chunk
  }

  #makeRoom(): void {
    const passed = [...this.#chunks].filter(([, chunk]) => chunk.passed)
    for (const [key] of passed.slice(0, Math.max(0, passed.length - KEPT_PASSED))) this.#chunks.delete(key)
    for (const oldest of this.#chunks.keys()) {
      if (this.#chunks.size <= KEPT_CHUNKS) return
      this.#chunks.delete(oldest)
    }
  }
}

const keyOf = (name: string, index: number): string => `${name} ${index}`

/** The next on the same timeline (XLogFileName of access/xlog_internal.h); undefined: this is no segment. */
function segmentAfter({ name, size }: WalFile): string | undefined {
  if (name.length !== 24 || size < MIN_SEGMENT_BYTES || size > MAX_SEGMENT_BYTES) return undefined
  const perLog = 0x1_0000_0000 / size
  if (!Number.isInteger(perLog)) return undefined
  const next = Number.parseInt(name.slice(16), 16) + 1
  const log = Number.parseInt(name.slice(8, 16), 16) + (next >= perLog ? 1 : 0)
  return name.slice(0, 8) + hex(log) + hex(next >= perLog ? 0 : next)
}

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(8, '0')
