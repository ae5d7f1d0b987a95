/** Bytes of WAL files on their way from the mount server and in memory, some ahead of the one who reads. */
import type { MaybePromise } from '../file-system.ts'
import type { Services } from '../services.ts'

export interface WalFile {
  readonly name: string
  readonly size: number
}

export const WAL_CHUNK = 1024 * 1024
/** Chunks fetched ahead of the one that is read. */
const AHEAD = 4
/** The kernel asks for pieces in any order, and for several files. */
const KEPT_CHUNKS = 16

interface Chunk {
  readonly coming: Promise<Buffer>
  /** Once it is there. */
  bytes: Buffer | undefined
}

export class WalFetches {
  readonly #services: Pick<Services, 'walRead'>
  /** By file and index, longest unused first. */
  readonly #chunks = new Map<string, Chunk>()

  constructor(services: Pick<Services, 'walRead'>) {
    this.#services = services
  }

  /** A chunk: at once where it is there. @throws as `Services.walRead` */
  read(file: WalFile, index: number): MaybePromise<Buffer> {
    const chunk = this.#chunk(file, index)
    for (let next = index + 1; next <= index + AHEAD && next * WAL_CHUNK < file.size; next++) {
      this.#chunk(file, next)
    }
    for (const oldest of this.#chunks.keys()) {
      if (this.#chunks.size <= KEPT_CHUNKS) break
      this.#chunks.delete(oldest)
    }
    return chunk.bytes ?? chunk.coming
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
    const coming = this.#services.walRead(file.name, index * WAL_CHUNK, length)
    const chunk: Chunk = { coming, bytes: undefined }
    coming.then(
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
