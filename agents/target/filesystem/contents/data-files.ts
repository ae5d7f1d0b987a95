/**
 * The local sparse files of a write cache, `<directory>/<inode number>`, and their open descriptors. The
 * block map says which of their bytes are valid.
 */
import * as fs from 'node:fs'
import type { Inode } from '../namespace/inode.ts'
import type { Services } from '../services.ts'

/** The functions used of `node:fs`; tests substitute one that records or fails the calls. */
export interface LocalIo {
  mkdirSync(path: string, options: { recursive: true; mode: number }): unknown
  readdirSync(path: string): string[]
  openSync(path: string, flags: number, mode?: number): number
  closeSync(fd: number): void
  readSync(fd: number, buffer: Buffer, offset: number, length: number, position: number): number
  writeSync(fd: number, buffer: Buffer, offset: number, length: number, position: number): number
  ftruncateSync(fd: number, size: number): void
  unlinkSync(path: string): void
}

export interface DataFilesDependencies {
  /** Created when missing. */
  readonly directory: string
  readonly services: Pick<Services, 'sync' | 'syncDirectory' | 'close'>
  /** Maximum number of open descriptors. */
  readonly limit: number
  readonly io?: LocalIo | undefined
}

/**
 * Files of at least this many bytes are freed in the background: freeing a gigabyte takes a quarter of a second on ext4.
 * Such a file is unlinked while open, and another thread closes it.
 */
const LARGE = 8 * 1024 * 1024
/** Bytes truncated in one step. */
const MAX_TRUNCATED = 64 * 1024 * 1024

const NO_DESCRIPTORS: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE'])
/** Descriptors left to the rest of the process when they run out. */
const SPARE_DESCRIPTORS = 32

const { O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR } = fs.constants

export class DataFiles {
  readonly #directory: string
  readonly #directoryFd: number
  #limit: number
  readonly #services: Pick<Services, 'sync' | 'syncDirectory' | 'close'>
  readonly #io: LocalIo
  readonly #open = new Set<Inode>()
  /** Descriptors of large files whose inodes were freed, until the journal has recorded that. */
  readonly #removedOpen = new Map<number, number>()
  readonly #known: Set<number>
  /** Files were created since the directory was last synced. */
  #madeFiles = false
  /** The last sync of the directory. */
  #directorySync: Promise<void> | undefined
  #closed = false

  constructor({ directory, services, limit, io = fs }: DataFilesDependencies) {
    this.#directory = directory
    this.#services = services
    this.#limit = limit
    this.#io = io
    io.mkdirSync(directory, { recursive: true, mode: 0o700 })
    this.#directoryFd = io.openSync(directory, O_RDONLY | O_DIRECTORY)
    this.#known = new Set(io.readdirSync(directory).map(Number))
  }

  /** Removes the files of inodes that no longer exist. Only before the first use. */
  sweep(wanted: (ino: number) => boolean): void {
    for (const ino of this.#known) {
      if (wanted(ino)) continue
      this.#known.delete(ino)
      // Synchronously: the number may be given to a new inode.
      this.#io.unlinkSync(this.#path(ino))
    }
  }

  /** Bytes read, fewer than asked only at the end of the local file. @throws the error of the file system */
  read(inode: Inode, buffer: Buffer, offset: number, length: number, position: number): number {
    const fd = this.#descriptor(inode)
    let done = this.#io.readSync(fd, buffer, offset, length, position)
    while (done < length) {
      const got = this.#io.readSync(fd, buffer, offset + done, length - done, position + done)
      if (got === 0) break
      done += got
    }
    return done
  }

  /** Writes the first `length` bytes of the buffer, all of them; the file is created when missing. @throws as `read` */
  write(inode: Inode, buffer: Buffer, length: number, position: number): void {
    const fd = this.#descriptor(inode)
    let done = 0
    while (done < length) {
      done += this.#io.writeSync(fd, buffer, done, length - done, position + done)
    }
    if (position + length > inode.localEnd) inode.localEnd = position + length
  }

  /** Resolves when the data written to the local file, and its directory entry, are on disk. */
  async sync(inode: Inode): Promise<void> {
    inode.pins++
    try {
      await this.#services.sync(this.#descriptor(inode))
    } finally {
      inode.pins--
      if (inode.freed || this.#closed) this.release(inode)
    }
    if (this.#madeFiles) {
      this.#madeFiles = false
      this.#directorySync = this.#syncDirectory()
    }
    // Another caller may have started the directory sync that covers this file's entry.
    await this.#directorySync
  }

  /** Frees space behind `size`, as much as goes quickly; returns whether all of it is freed. */
  truncate(inode: Inode, size: number): boolean {
    if (!this.#known.has(inode.ino)) return true
    try {
      const fd = this.#descriptor(inode)
      if (size === 0 && inode.localEnd > LARGE) {
        if (inode.pins > 0) return false
        // A later write creates the file again.
        this.#io.unlinkSync(this.#path(inode.ino))
        this.#known.delete(inode.ino)
        this.#open.delete(inode)
        inode.fd = -1
        inode.localEnd = 0
        this.#closeInBackground(fd)
        return true
      }
      inode.localEnd = Math.max(size, inode.localEnd - MAX_TRUNCATED)
      this.#io.ftruncateSync(fd, inode.localEnd)
      return inode.localEnd === size
    } catch {
      // Space that cannot be freed now is freed with the file.
      return true
    }
  }

  /** An inode was freed; its local file is to be removed by `remove` once that is durable. */
  removeOpen(inode: Inode): void {
    if (inode.fd < 0 || inode.pins > 0 || inode.localEnd <= LARGE) {
      this.release(inode)
      return
    }
    this.#open.delete(inode)
    this.#removedOpen.set(inode.ino, inode.fd)
    inode.fd = -1
  }

  /** Deletes a local file. After a crash, leftovers are removed at the next start. */
  remove(ino: number): void {
    if (!this.#known.delete(ino)) return
    try {
      this.#io.unlinkSync(this.#path(ino))
    } catch {
      // The next start removes it.
    }
    const fd = this.#removedOpen.get(ino)
    if (fd === undefined) return
    this.#removedOpen.delete(ino)
    this.#closeInBackground(fd)
  }

  /** Closes an inode's descriptor unless it is in use. */
  release(inode: Inode): void {
    if (inode.fd < 0 || inode.pins > 0) return
    this.#open.delete(inode)
    const fd = inode.fd
    inode.fd = -1
    this.#io.closeSync(fd)
  }

  close(): void {
    this.#closed = true
    for (const inode of this.#open) this.release(inode)
    for (const fd of this.#removedOpen.values()) this.#io.closeSync(fd)
    this.#removedOpen.clear()
    this.#io.closeSync(this.#directoryFd)
  }

  /** The descriptor of an inode's local file, which is created when missing. */
  #descriptor(inode: Inode): number {
    if (inode.fd < 0) return this.#openFile(inode)
    inode.recent = true
    return inode.fd
  }

  #openFile(inode: Inode): number {
    if (this.#closed) throw new Error('the write cache is closed')
    while (this.#open.size >= this.#limit && this.#closeUnused()) {}
    try {
      inode.fd = this.#io.openSync(this.#path(inode.ino), O_RDWR | O_CREAT, 0o600)
    } catch (error) {
      if (!NO_DESCRIPTORS.has((error as NodeJS.ErrnoException).code ?? '') || !this.#lowerLimit()) throw error
      return this.#openFile(inode)
    }
    if (!this.#known.has(inode.ino)) {
      this.#known.add(inode.ino)
      this.#madeFiles = true
    }
    inode.recent = false
    this.#open.add(inode)
    return inode.fd
  }

  async #syncDirectory(): Promise<void> {
    try {
      await this.#services.syncDirectory(this.#directoryFd)
    } catch (error) {
      this.#madeFiles = true
      throw error
    }
  }

  #closeInBackground(fd: number): void {
    // A failure loses nothing: the descriptor is closed when the process ends.
    this.#services.close(fd).catch(() => undefined)
  }

  /**
   * The process or the machine allows fewer descriptors than expected: lowers the limit and closes some for others. False:
   * none can be closed.
   */
  #lowerLimit(): boolean {
    this.#limit = Math.max(1, this.#open.size - SPARE_DESCRIPTORS)
    const before = this.#open.size
    while (this.#open.size >= this.#limit && this.#closeUnused()) {}
    return this.#open.size < before
  }

  /**
   * Closes a file that was not used since it was last skipped; recently used files are skipped once. False: all are in use.
   */
  #closeUnused(): boolean {
    let pinned = 0
    for (const inode of this.#open) {
      if (inode.pins === 0 && !inode.recent) {
        this.release(inode)
        return true
      }
      if (inode.pins > 0 && ++pinned > this.#open.size) return false
      inode.recent = false
      this.#open.delete(inode)
      this.#open.add(inode)
    }
    return false
  }

  #path(ino: number): string {
    return `${this.#directory}/${ino}`
  }
}
