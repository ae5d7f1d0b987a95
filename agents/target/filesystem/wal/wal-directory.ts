/** The read-only directory `wal/`: files of the WAL archive, decoded by the mount server. Their bytes come from wal-fetches.ts. */
import type { Logger } from 'pino'
import { type Attributes, FileSystemError, type Ino, type MaybePromise } from '../file-system.ts'
import type { Services } from '../services.ts'
import { WAL_CHUNK, WalFetches, type WalFile } from './wal-fetches.ts'

/** Inode numbers of WAL files start here, far above those in the journal. */
const FIRST_WAL_INO = 2 ** 48

/** A segment or a timeline history file. Source: PostgreSQL, access/xlog_internal.h. */
const WAL_NAME = /^(?:[0-9A-F]{24}|[0-9A-F]{8}\.history)$/

interface WalEntry extends WalFile {
  readonly ino: Ino
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
  readonly #files: WalEntry[] = []
  readonly #byName = new Map<string, WalEntry>()
  readonly #fetches: WalFetches

  constructor(dependencies: WalDirectoryDependencies) {
    this.#to = dependencies
    this.#fetches = new WalFetches(dependencies.services)
  }

  /** Asks the archive every time, since it grows; the lookup also makes the segment ready locally. @throws FileSystemError ENOENT | EIO */
  async lookup(name: string): Promise<Attributes> {
    if (!WAL_NAME.test(name)) throw new FileSystemError('ENOENT')
    const size = await this.#fromArchive(name, this.#to.services.walSize(name))
    if (size === undefined) throw new FileSystemError('ENOENT')
    let file = this.#byName.get(name)
    if (file?.size !== size) {
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

  /** Only files that were looked up by name; the archive itself is not listed. */
  list(): readonly WalEntry[] {
    return this.#files
  }

  /** Synchronous where the bytes are in memory. @throws FileSystemError EIO */
  read(ino: Ino, buffer: Buffer, length: number, position: number): MaybePromise<number> {
    const file = this.#file(ino)
    const end = Math.min(position + length, file.size)
    for (let at = position; at < end; ) {
      const chunk = this.#fetches.read(file, Math.floor(at / WAL_CHUNK))
      if (chunk instanceof Promise) return this.#readRest(file, buffer, position, at, end)
      at += this.#copy(file, chunk, buffer, position, at, end)
    }
    return Math.max(0, end - position)
  }

  /** Reads the rest, from `at` on. */
  async #readRest(
    file: WalEntry,
    buffer: Buffer,
    position: number,
    at: number,
    end: number,
  ): Promise<number> {
    for (let next = at; next < end; ) {
      const chunk = await this.#fromArchive(file.name, this.#fetches.read(file, Math.floor(next / WAL_CHUNK)))
      next += this.#copy(file, chunk, buffer, position, next, end)
    }
    return end - position
  }

  /** Copies the part that lies in `chunk`. @returns its bytes */
  #copy(file: WalEntry, chunk: Buffer, buffer: Buffer, position: number, at: number, end: number): number {
    const index = Math.floor(at / WAL_CHUNK)
    const from = at - index * WAL_CHUNK
    const copied = chunk.copy(buffer, at - position, from, from + end - at)
    if (copied === 0) throw new FileSystemError('EIO', `${file.name} ends early`)
    return copied
  }

  async #fromArchive<T>(name: string, answer: MaybePromise<T>): Promise<T> {
    try {
      return await answer
    } catch (cause) {
      this.#to.logger.error({ err: cause, file: name }, 'a WAL file could not be read from the archive')
      throw new FileSystemError('EIO', `${name} could not be read from the archive`, { cause })
    }
  }

  #file(ino: Ino): WalEntry {
    const file = this.#files[ino - FIRST_WAL_INO]
    if (file === undefined) throw new FileSystemError('ENOENT')
    return file
  }

  #attributes(file: WalEntry): Attributes {
    const { owner, mtime } = this.#to
    return {
      ...owner,
      ino: file.ino,
      // cp gives PostgreSQL's copy this mode, and PostgreSQL opens that for writing. Writes to these files are refused anyway.
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
