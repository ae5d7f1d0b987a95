/**
 * The local sparse files of a write cache, `<directory>/<inode number>`, and their open descriptors. Which of their
 * bytes mean anything is the block map's to say.
 */
import * as fs from 'node:fs'
import type { Inode } from '../namespace/inode.ts'
import type { Services } from '../services.ts'

/** What is used of `node:fs`; another one can record what happens to the files, and when. */
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
  /** Made when missing. */
  readonly directory: string
  readonly services: Pick<Services, 'sync' | 'syncDirectory' | 'close'>
  /** Descriptors kept open at once. */
  readonly limit: number
  readonly io?: LocalIo | undefined
}

/**
 * Bytes from which giving the room of a file back is not waited for: it takes a quarter of a second for a gigabyte on
 * ext4. Such a file loses its name while it is open, and others close it.
 */
const LARGE = 8 * 1024 * 1024
/** Bytes that are cut off a file in one go. */
const MAX_TRUNCATED = 64 * 1024 * 1024

const NO_DESCRIPTORS: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE'])
/** Descriptors that the rest of the process is left when there are too few. */
const LEFT_TO_OTHERS = 32

const { O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR } = fs.constants

export class DataFiles {
  readonly #directory: string
  readonly #directoryFd: number
  #limit: number
  readonly #services: Pick<Services, 'sync' | 'syncDirectory' | 'close'>
  readonly #io: LocalIo
  readonly #open = new Set<Inode>()
  /** Descriptors of large files whose inodes are gone, until the journal knows. */
  readonly #removedOpen = new Map<number, number>()
  readonly #known: Set<number>
  /** Files were made since the directory was last synced. */
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

  /** Removes the files of inodes that are not wanted any more. Only before the first use. */
  sweep(wanted: (ino: number) => boolean): void {
    for (const ino of this.#known) {
      if (wanted(ino)) continue
      this.#known.delete(ino)
      // At once: the number may be given to a new inode.
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

  /** Writes the first `length` bytes of the buffer, all of them; the file is made when missing. @throws as `read` */
  write(inode: Inode, buffer: Buffer, length: number, position: number): void {
    const fd = this.#descriptor(inode)
    let done = 0
    while (done < length) {
      done += this.#io.writeSync(fd, buffer, done, length - done, position + done)
    }
    if (position + length > inode.localEnd) inode.localEnd = position + length
  }

  /** Resolves when what was written to the local file, and its name, are on disk. */
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
    // One that others began may be what this file's name waits for.
    await this.#directorySync
  }

  /** Gives the room behind `size` back, as much as goes quickly; tells whether all of it. */
  truncate(inode: Inode, size: number): boolean {
    if (!this.#known.has(inode.ino)) return true
    try {
      const fd = this.#descriptor(inode)
      if (size === 0 && inode.localEnd > LARGE) {
        if (inode.pins > 0) return false
        // A later write makes the file anew.
        this.#io.unlinkSync(this.#path(inode.ino))
        this.#known.delete(inode.ino)
        this.#open.delete(inode)
        inode.fd = -1
        inode.localEnd = 0
        this.#closeElsewhere(fd)
        return true
      }
      inode.localEnd = Math.max(size, inode.localEnd - MAX_TRUNCATED)
      this.#io.ftruncateSync(fd, inode.localEnd)
      return inode.localEnd === size
    } catch {
      // Room that cannot be given back now is given back with the file.
      return true
    }
  }

  /** An inode is gone; its local file is removed once that is durable. */
  removeOpen(inode: Inode): void {
    if (inode.fd < 0 || inode.pins > 0 || inode.localEnd <= LARGE) {
      this.release(inode)
      return
    }
    this.#open.delete(inode)
    this.#removedOpen.set(inode.ino, inode.fd)
    inode.fd = -1
  }

  /** Deletes a local file. What is left of it after a crash is swept at the next start. */
  remove(ino: number): void {
    if (!this.#known.delete(ino)) return
    try {
      this.#io.unlinkSync(this.#path(ino))
    } catch {
      // As after a crash.
    }
    const fd = this.#removedOpen.get(ino)
    if (fd === undefined) return
    this.#removedOpen.delete(ino)
    this.#closeElsewhere(fd)
  }

  /** Closes an inode's descriptor when nothing uses it. */
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

  /** The descriptor of an inode's local file, which is made when missing. */
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

  #closeElsewhere(fd: number): void {
    // Nothing is lost when it fails: the process closes it with its end.
    this.#services.close(fd).catch(() => undefined)
  }

  /**
   * The process or the machine allows fewer descriptors than were thought: makes do with fewer from now on, and leaves
   * some to others. False: there are none to give back.
   */
  #lowerLimit(): boolean {
    this.#limit = Math.max(1, this.#open.size - LEFT_TO_OTHERS)
    const before = this.#open.size
    while (this.#open.size >= this.#limit && this.#closeUnused()) {}
    return this.#open.size < before
  }

  /**
   * Closes a file that was not used since it was passed over last: those that are used are passed over once. False: all
   * are being used.
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
