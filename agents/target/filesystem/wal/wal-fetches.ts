/** Chunks of WAL files, in memory or being fetched from the mount server, with read-ahead. */
import type { MaybePromise } from '../file-system.ts'
import type { Services } from '../services.ts'

export interface WalFile {
  readonly name: string
  readonly size: number
}

export const WAL_CHUNK = 1024 * 1024
/** Chunks to read ahead. */
const AHEAD = 4
/** The kernel reads in any order, and from several files. */
const KEPT_CHUNKS = 16

interface Chunk {
  readonly arrival: Promise<Buffer>
  /** Set once it has arrived. */
  bytes: Buffer | undefined
}

export class WalFetches {
  readonly #services: Pick<Services, 'walRead'>
  /** By file and index, least recently used first. */
  readonly #chunks = new Map<string, Chunk>()

  constructor(services: Pick<Services, 'walRead'>) {
    this.#services = services
  }

  /** A chunk, synchronously when it is in memory. @throws as `Services.walRead` */
  read(file: WalFile, index: number): MaybePromise<Buffer> {
    const chunk = this.#chunk(file, index)
    for (let next = index + 1; next <= index + AHEAD && next * WAL_CHUNK < file.size; next++) {
      this.#chunk(file, next)
    }
    for (const oldest of this.#chunks.keys()) {
      if (this.#chunks.size <= KEPT_CHUNKS) break
      this.#chunks.delete(oldest)
    }
    return chunk.bytes ?? chunk.arrival
  }

  #chunk(file: WalFile, index: number): Chunk {
    const key = `${file.name} ${index}`
    const chunk = this.#chunks.get(key) ?? this.#fetch(file, index, key)
    this.#chunks.delete(key)
    this.#chunks.set(key, chunk)
    return chunk
  }

  #fetch(file: WalFile, index: number, key: string): Chunk {
    const length = Math.min(WAL_CHUNK, file.size - index * WAL_CHUNK)
    const arrival = this.#services.walRead(file.name, index * WAL_CHUNK, length)
    const chunk: Chunk = { arrival, bytes: undefined }
    arrival.then(
      (bytes) => {
        chunk.bytes = bytes
      },
      () => {
        if (this.#chunks.get(key) === chunk) this.#chunks.delete(key)
      },
    )
    return chunk
  }
}
