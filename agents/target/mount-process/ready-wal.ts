/**
 * WAL segments that lie on this machine, whole, before PostgreSQL asks for them: who takes one renames it, which costs
 * less than copying it out of the mount, or out of anything.
 *
 * What is fetched ahead is a bet: that a segment is missing or damaged is forgotten here, and told to whoever reads it
 * in the mount.
 */
import { constants } from 'node:fs'
import { access, type FileHandle, open, rename, rm, statfs, unlink } from 'node:fs/promises'
import type { Logger } from 'pino'
import { giveBack } from '../../dataplane/given-back.ts'

export interface ReadyWalOptions {
  /** Where segments lie ready. The instance's user may take them away, and whatever else. */
  readonly directory: string
  /** Where they are written before, on the same file system; nobody else may write there. */
  readonly drafts: string
  readonly owner: { readonly uid: number; readonly gid: number }
  /** Bytes that stay free on the file system. */
  readonly reserveBytes: number
  /** Bytes of a file of the archive; undefined: it does not have it. */
  readonly size: (name: string) => Promise<number | undefined>
  /** The bytes are the caller's own. */
  readonly read: (name: string, offset: number, length: number) => Promise<Buffer>
  readonly logger: Logger
}

export interface ReadyWal {
  /**
   * Somebody wants this file of the archive: gives its size, once it lies ready where it is a segment and can be had
   * so. Segments that are wanted one after another are made ready ahead, more with each.
   * @throws as `size`
   */
  wanted(name: string): Promise<number | undefined>
  /** Nobody wants any for now: takes away what lies ready, and what is coming. Never rejects. */
  clear(): Promise<void>
}

/** A file of the write cache, and what it takes to be one. */
interface Segment {
  readonly bytes: number
  /** Whether it lies there. Never rejects. */
  readonly ready: Promise<boolean>
  dropped: boolean
}

/** Source of names and sizes: PostgreSQL, access/xlog_internal.h (XLogFileName, IsValidWalSegSize). */
const SEGMENT = /^[0-9A-F]{24}$/
const [MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES] = [1024 ** 2, 1024 ** 3]
/** Ahead of the one that is wanted: at most so many, and so many bytes, but one however large. */
const AHEAD_SEGMENTS = 4
const AHEAD_BYTES = 64 * 1024 ** 2
/** On their way at once, and pieces of each: enough to hide a round trip, few enough that pages do not wait behind them. */
const SEGMENTS_AT_ONCE = 2
const PIECES_AT_ONCE = 4
const PIECE_BYTES = 1024 ** 2
/** More at once has the page cache look for larger pages, which took four times as long. */
const WRITE_BYTES = 128 * 1024

export function createReadyWal(options: ReadyWalOptions): ReadyWal {
  const { directory, drafts, owner, reserveBytes, size, read, logger } = options
  const segments = new Map<string, Segment>()
  let coming = 0
  /** What was wanted last. */
  let current: { readonly name: string; readonly bytes: number } | undefined
  /** How many are made ready ahead of it. */
  let ahead = 0
  /** The first after it that the archive does not have; asked for again once another is wanted. */
  let missing: string | undefined

  async function wanted(name: string): Promise<number | undefined> {
    if (!SEGMENT.test(name)) return size(name)
    const known = segments.get(name)
    if (known !== undefined) {
      turnTo(name, known.bytes)
      if ((await known.ready) && (await exists(`${directory}/${name}`))) return known.bytes
      // It was taken before, or could not be had.
      if (segments.get(name) === known) segments.delete(name)
    }
    const bytes = await size(name)
    if (bytes === undefined || !isSegmentSize(bytes)) return bytes
    turnTo(name, bytes)
    await segments.get(name)?.ready
    return bytes
  }

  function turnTo(name: string, bytes: number): void {
    if (current?.name !== name) {
      const follows = current !== undefined && name === segmentAfter(current.name, current.bytes)
      const most = Math.min(AHEAD_SEGMENTS, Math.max(1, Math.floor(AHEAD_BYTES / bytes)))
      ahead = follows ? Math.min(most, 2 * ahead) : 1
      missing = undefined
      current = { name, bytes }
      const kept = new Set(namesFrom(name, bytes, AHEAD_SEGMENTS))
      for (const other of segments.keys()) if (!kept.has(other)) void drop(other)
    }
    if (!segments.has(name)) begin(name, bytes)
    goOn()
  }

  function goOn(): void {
    if (current === undefined) return
    const { name, bytes } = current
    for (const next of namesFrom(name, bytes, ahead).slice(1)) {
      if (coming >= SEGMENTS_AT_ONCE || next === missing) return
      if (!segments.has(next)) begin(next, bytes)
    }
  }

  function begin(name: string, bytes: number): void {
    coming += 1
    const { promise: ready, resolve } = Promise.withResolvers<boolean>()
    const segment: Segment = { bytes, ready, dropped: false }
    segments.set(name, segment)
    const ended = (lies: boolean): void => {
      coming -= 1
      if (!lies && segments.get(name) === segment) segments.delete(name)
      resolve(lies)
      goOn()
    }
    fetch(name, segment).then(ended, (err: unknown) => {
      if (!segment.dropped) logger.debug({ err, file: name }, 'a WAL segment was not made ready')
      // As much as nobody need ask for it ahead again.
      if (name !== current?.name) missing ??= name
      ended(false)
    })
  }

  async function fetch(name: string, segment: Segment): Promise<boolean> {
    const { bytes } = segment
    if (name !== current?.name && (await size(name)) !== bytes)
      throw new Error('the archive does not have it')
    if (!(await hasRoom(bytes))) throw new Error('there is no room for it')
    const draft = `${drafts}/${name}`
    try {
      await rm(draft, { force: true })
      const file = await open(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
      try {
        if (process.geteuid?.() === 0) await file.chown(owner.uid, owner.gid)
        await copy(name, segment, file)
      } finally {
        await file.close()
      }
      await rename(draft, `${directory}/${name}`)
    } catch (error) {
      await rm(draft, { force: true })
      throw error
    }
    // Whoever dropped it looked before it was there.
    if (segment.dropped) await remove(name)
    return !segment.dropped
  }

  /** Pieces are read side by side and written in their order. */
  async function copy(name: string, segment: Segment, file: FileHandle): Promise<void> {
    const { bytes } = segment
    const coming: Promise<Buffer>[] = []
    let asked = 0
    for (let written = 0; written < bytes; ) {
      for (; asked < bytes && coming.length < PIECES_AT_ONCE; asked += PIECE_BYTES) {
        const piece = read(name, asked, Math.min(PIECE_BYTES, bytes - asked))
        // Whoever takes it first hears of it.
        piece.catch(() => undefined)
        coming.push(piece)
      }
      const piece = await coming.shift()
      if (segment.dropped) throw new Error('nobody wants it any more')
      if (piece?.length !== Math.min(PIECE_BYTES, bytes - written)) throw new Error('it ends early')
      for (let at = 0; at < piece.length; at += WRITE_BYTES) {
        await file.write(piece, at, Math.min(WRITE_BYTES, piece.length - at), written + at)
      }
      written += piece.length
      giveBack(piece)
    }
  }

  async function hasRoom(bytes: number): Promise<boolean> {
    const { bavail, bsize } = await statfs(drafts)
    return bavail * bsize - bytes >= reserveBytes
  }

  async function drop(name: string): Promise<void> {
    const segment = segments.get(name)
    if (segment === undefined) return
    segment.dropped = true
    segments.delete(name)
    await remove(name)
  }

  /** Nothing is there where it was taken. */
  async function remove(name: string): Promise<void> {
    await unlink(`${directory}/${name}`).catch(() => undefined)
  }

  return {
    wanted,
    async clear() {
      current = undefined
      await Promise.all([...segments.keys()].map(drop))
    },
  }
}

/** A segment and those after it. */
function namesFrom(name: string, bytes: number, after: number): string[] {
  const names = [name]
  for (let count = 0; count < after; count++) names.push(segmentAfter(names[count] as string, bytes))
  return names
}

/** The next on the same timeline. */
function segmentAfter(name: string, bytes: number): string {
  const perLog = 0x1_0000_0000 / bytes
  const next = Number.parseInt(name.slice(16), 16) + 1
  const log = Number.parseInt(name.slice(8, 16), 16) + (next >= perLog ? 1 : 0)
  return name.slice(0, 8) + hex(log) + hex(next >= perLog ? 0 : next)
}

const hex = (value: number): string => value.toString(16).toUpperCase().padStart(8, '0')

const isSegmentSize = (bytes: number): boolean =>
  bytes >= MIN_SEGMENT_BYTES && bytes <= MAX_SEGMENT_BYTES && Number.isInteger(Math.log2(bytes))

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
