/** A bounded cache of open file descriptors for positional reads. Read-only; which files may be opened is open-file.ts. */
import { close, read, readSync, stat } from 'node:fs'
import { promisify } from 'node:util'
import { systemPath } from '../../dataplane/protocol/file-names.ts'
import type { AllowedRoots } from './allowed-roots.ts'
import { createFileOpener, type OpenedFile } from './open-file.ts'

const closeFile = promisify(close)
const statPath = promisify(stat)

/** Unused descriptors are closed after this time, so that files deleted meanwhile give their space back. */
const IDLE_MS = 60_000

export interface DescriptorCache {
  /**
   * Runs `work` on the file, open for as long as it takes.
   * @throws as `FileOpener.open`, and what `work` throws
   */
  use<T>(roots: AllowedRoots, path: string, work: (file: OpenedFile) => Promise<T>): Promise<T>
  /** The file, if it is open already; only until the caller returns to the event loop. */
  peek(path: string): OpenedFile | undefined
  /** Opens the file anew next time. */
  forget(path: string): void
  /** Opens the file anew next time if what is open is not what the path names now, or has changed since. */
  refresh(path: string): Promise<void>
  /** Closes files that are not in use; the others are closed when their work ends. */
  close(): Promise<void>
}

interface Entry {
  readonly opened: Promise<OpenedFile>
  file: OpenedFile | undefined
  users: number
  usedAt: number
}

export function createDescriptorCache(limit: number): DescriptorCache {
  // Least recently used first: that one is closed first.
  const entries = new Map<string, Entry>()
  const opener = createFileOpener()
  let closed = false

  const idle = setInterval(() => {
    const before = Date.now() - IDLE_MS
    for (const [path, entry] of entries) {
      if (entry.users === 0 && entry.usedAt < before) drop(path, entry)
    }
    opener.forgetRoots()
  }, IDLE_MS)
  idle.unref()

  function drop(path: string, entry: Entry): void {
    if (entries.get(path) === entry) entries.delete(path)
    entry.opened.then(({ fd }) => closeFile(fd)).catch(() => undefined)
  }

  function forget(path: string): void {
    const entry = entries.get(path)
    if (entry === undefined) return
    if (entry.users === 0) drop(path, entry)
    else entries.delete(path)
  }

  function makeRoom(): void {
    if (entries.size <= limit && !closed) return
    for (const [path, entry] of entries) {
      if (entry.users === 0) drop(path, entry)
      if (entries.size <= limit && !closed) return
    }
  }

  return {
    async use(roots, path, work) {
      let entry = entries.get(path)
      if (entry === undefined) {
        entry = { opened: opener.open(roots, path), file: undefined, users: 0, usedAt: 0 }
        const made = entry
        made.opened.then(
          (file) => {
            made.file = file
          },
          () => {
            if (entries.get(path) === made) entries.delete(path)
          },
        )
      } else {
        entries.delete(path)
      }
      entries.set(path, entry)
      entry.users += 1
      entry.usedAt = Date.now()
      try {
        return await work(await entry.opened)
      } finally {
        entry.users -= 1
        if (entry.users === 0 && entries.get(path) !== entry) drop(path, entry)
        else makeRoom()
      }
    },
    peek(path) {
      const entry = entries.get(path)
      if (entry === undefined) return undefined
      entries.delete(path)
      entries.set(path, entry)
      entry.usedAt = Date.now()
      return entry.file
    },
    forget,
    async refresh(path) {
      const entry = entries.get(path)
      if (entry === undefined) return
      try {
        const [opened, now] = await Promise.all([entry.opened, statPath(systemPath(path))])
        if (opened.ino === now.ino && opened.size === now.size && opened.mtimeMs === now.mtimeMs) return
      } catch {
        // Opening it again shows what is wrong.
      }
      forget(path)
    },
    async close() {
      closed = true
      clearInterval(idle)
      makeRoom()
    },
  }
}

/** Up to `length` bytes at `offset`; fewer only at the end of the file. */
export function readAt(fd: number, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length)
  return new Promise((resolve, reject) => {
    const fill = (done: number): void => {
      read(fd, buffer, done, length - done, offset + done, (error, count) => {
        if (error !== null) reject(error)
        else if (count === 0) resolve(buffer.subarray(0, done))
        else if (done + count === length) resolve(buffer)
        else fill(done + count)
      })
    }
    if (length === 0) resolve(buffer)
    else fill(0)
  })
}

/** As `readAt`, synchronously: for what is most likely in the page cache. */
export function readAtSync(fd: number, offset: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafe(length)
  let done = 0
  while (done < length) {
    const count = readSync(fd, buffer, done, length - done, offset + done)
    if (count === 0) break
    done += count
  }
  return buffer.subarray(0, done)
}
