/**
 * The read-only directory `wal/`: names of the WAL archive, decoded by the mount server. Every lookup asks the source;
 * what is read passes through in large chunks and is not kept in the write cache.
 */

import type { Logger } from 'pino'
import { type Attributes, FileSystemError, type Ino } from './file-system.ts'
import type { Services } from './services.ts'

/** Inode numbers of WAL files begin here, away from those that the journal knows. */
const FIRST_WAL_INO = 2 ** 48

/** A segment or a timeline history file. Source: PostgreSQL, access/xlog_internal.h. */
const WAL_NAME = /^(?:[0-9A-F]{24}|[0-9A-F]{8}\.history)$/

const CHUNK = 1024 * 1024
/** Chunks kept, over all files; a segment is read once, from start to end, by one process. */
const KEPT_CHUNKS = 16
/** Chunks asked for beyond the one that is read. */
const AHEAD = 3

interface WalFile {
  readonly ino: Ino
  readonly name: string
  readonly size: number
}

export interface WalDirectoryDependencies {
  readonly services: Pick<Services, 'walSize' | 'walRead'>
  readonly owner: { readonly uid: number; readonly gid: number }
  /** Nanoseconds since the epoch. */
  readonly mtime: bigint
  readonly logger: Logger
}

export class WalDirectory {
  readonly #to: WalDirectoryDependencies
  readonly #files: WalFile[] = []
  readonly #byName = new Map<string, WalFile>()
  readonly #chunks = new Map<string, Promise<Buffer>>()

  constructor(dependencies: WalDirectoryDependencies) {
    this.#to = dependencies
  }

  /** @throws FileSystemError ENOENT | EIO */
  async lookup(name: string): Promise<Attributes> {
    const known = this.#byName.get(name)
    if (known !== undefined) return this.#attributes(known)
    if (!WAL_NAME.test(name)) throw new FileSystemError('ENOENT')
    const size = await this.#asked(name, this.#to.services.walSize(name))
    if (size === undefined) throw new FileSystemError('ENOENT')
    let file = this.#byName.get(name)
    if (file === undefined) {
      file = { ino: FIRST_WAL_INO + this.#files.length, name, size }
      this.#files.push(file)
      this.#byName.set(name, file)
    }
    return this.#attributes(file)
  }

  has(ino: Ino): boolean {
    return ino >= FIRST_WAL_INO
  }

  getattr(ino: Ino): Attributes {
    return this.#attributes(this.#file(ino))
  }

  /** Only what was asked for by name; the archive itself is not listed. */
  list(): readonly WalFile[] {
    return this.#files
  }

  /** @throws FileSystemError EIO */
  async read(ino: Ino, buffer: Buffer, length: number, position: number): Promise<number> {
    const file = this.#file(ino)
    const end = Math.min(position + length, file.size)
    for (let at = position; at < end; ) {
      const index = Math.floor(at / CHUNK)
      const wanted = this.#chunk(file, index)
      for (let ahead = 1; ahead <= AHEAD && (index + ahead) * CHUNK < file.size; ahead++) {
        this.#chunk(file, index + ahead).catch(() => undefined)
      }
      const chunk = await wanted
      const from = at - index * CHUNK
      const copied = chunk.copy(buffer, at - position, from, from + end - at)
      if (copied === 0) throw new FileSystemError('EIO', `${file.name} ends early`)
      at += copied
    }
    return Math.max(0, end - position)
  }

  #chunk(file: WalFile, index: number): Promise<Buffer> {
    const key = `${file.name} ${index}`
    const known = this.#chunks.get(key)
    if (known !== undefined) return known
    const length = Math.min(CHUNK, file.size - index * CHUNK)
    const chunk = this.#asked(file.name, this.#to.services.walRead(file.name, index * CHUNK, length))
    this.#chunks.set(key, chunk)
    chunk.catch(() => this.#chunks.delete(key))
    for (const oldest of this.#chunks.keys()) {
      if (this.#chunks.size <= KEPT_CHUNKS) break
      this.#chunks.delete(oldest)
    }
    return chunk
  }

  async #asked<T>(name: string, answer: Promise<T>): Promise<T> {
    try {
      return await answer
    } catch (cause) {
      this.#to.logger.error({ err: cause, file: name }, 'a WAL file could not be read from the archive')
      throw new FileSystemError('EIO', `${name} could not be read from the archive`, { cause })
    }
  }

  #file(ino: Ino): WalFile {
    const file = this.#files[ino - FIRST_WAL_INO]
    if (file === undefined) throw new FileSystemError('ENOENT')
    return file
  }

  #attributes(file: WalFile): Attributes {
    const { owner, mtime } = this.#to
    return {
      ...owner,
      ino: file.ino,
      // PostgreSQL opens its copy for writing, and cp gives the copy this mode; writes here are refused all the same.
      mode: 0o100600,
      nlink: 1,
      size: file.size,
      allocated: file.size,
      rdev: 0,
      atime: mtime,
      mtime,
      ctime: mtime,
    }
  }
}
