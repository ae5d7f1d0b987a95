/**
 * The local sparse files of a write cache, `<directory>/<inode number>`, and their open descriptors. Which of their
 * bytes mean anything is the block map's to say.
 */
import {
  close,
  closeSync,
  constants,
  fdatasync,
  fsync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  unlink,
  unlinkSync,
} from 'node:fs'
import { promisify } from 'node:util'
import type { Inode } from './inode.ts'

const fdatasyncAsync = promisify(fdatasync)
const fsyncAsync = promisify(fsync)

export class DataFiles {
  readonly #directory: string
  readonly #directoryFd: number
  readonly #limit: number
  readonly #open = new Set<Inode>()
  readonly #known: Set<number>
  /** Files were made since the directory was last synced. */
  #madeFiles = false
  #closed = false

  /** `limit`: descriptors kept open at once. */
  constructor(directory: string, limit: number) {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    this.#directory = directory
    this.#limit = limit
    this.#directoryFd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
    this.#known = new Set(readdirSync(directory).map(Number))
  }

  /** Removes the files of inodes that are not wanted any more. Only before the first use. */
  sweep(wanted: (ino: number) => boolean): void {
    for (const ino of this.#known) {
      if (wanted(ino)) continue
      this.#known.delete(ino)
      // At once: the number may be given to a new inode.
      unlinkSync(this.#path(ino))
    }
  }

  /** The descriptor of an inode's local file, made when missing. */
  descriptor(inode: Inode): number {
    if (inode.fd >= 0) return inode.fd
    if (this.#closed) throw new Error('the write cache is closed')
    inode.fd = openSync(this.#path(inode.ino), constants.O_RDWR | constants.O_CREAT, 0o600)
    if (!this.#known.has(inode.ino)) {
      this.#known.add(inode.ino)
      this.#madeFiles = true
    }
    this.#open.add(inode)
    if (this.#open.size > this.#limit) this.#closeOldest()
    return inode.fd
  }

  /** Resolves when what was written to the local file, and its name, are on disk. */
  async sync(inode: Inode): Promise<void> {
    const fd = this.descriptor(inode)
    inode.pins++
    try {
      await fdatasyncAsync(fd)
    } finally {
      inode.pins--
    }
    if (this.#madeFiles) {
      this.#madeFiles = false
      try {
        await fsyncAsync(this.#directoryFd)
      } catch (error) {
        this.#madeFiles = true
        throw error
      }
    }
  }

  /** Gives the room behind `size` back, at once: a later write may need the place again. */
  cut(inode: Inode, size: number): void {
    if (!this.#known.has(inode.ino)) return
    try {
      ftruncateSync(this.descriptor(inode), size)
    } catch {
      // Room that cannot be given back now is given back with the file.
    }
  }

  /** Deletes a local file. Nothing waits for it: what is left after a crash is swept at the next start. */
  remove(ino: number): void {
    if (this.#known.delete(ino)) unlink(this.#path(ino), () => undefined)
  }

  /** Closes an inode's descriptor when nothing uses it. */
  release(inode: Inode): void {
    if (inode.fd < 0 || inode.pins > 0) return
    this.#open.delete(inode)
    const fd = inode.fd
    inode.fd = -1
    close(fd)
  }

  close(): void {
    this.#closed = true
    for (const inode of this.#open) this.release(inode)
    closeSync(this.#directoryFd)
  }

  #closeOldest(): void {
    for (const inode of this.#open) {
      if (inode.pins > 0) continue
      this.release(inode)
      return
    }
  }

  #path(ino: number): string {
    return `${this.#directory}/${ino}`
  }
}
