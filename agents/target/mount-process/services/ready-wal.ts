/**
 * WAL segments that lie on this machine, whole, before PostgreSQL asks for them: who takes one renames it, which costs
 * less than copying it out of the mount, or out of anything. They come as they are stored and are decoded here, where
 * the mount server can hand them over so.
 *
 * What is fetched ahead is a bet: that a segment is missing or damaged is forgotten here, and told to whoever reads it
 * in the mount.
 */
import { createHash } from 'node:crypto'
import { constants, existsSync } from 'node:fs'
import { type FileHandle, open, rename, rm, statfs, unlink } from 'node:fs/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import type { Logger } from 'pino'
import type { StoredWal } from '../../../dataplane/backup-source.ts'
import { freeBuffer } from '../../../dataplane/protocol/freed-buffers.ts'
import { segmentAfter } from '../../../wal/lsn.ts'

export interface ReadyWalOptions {
  /** Where segments lie ready. The instance's user may take them away, and whatever else. */
  readonly directory: string
  /** Where they are written before, on the same file system; nobody else may write there. */
  readonly drafts: string
  readonly owner: { readonly uid: number; readonly gid: number }
  /** Bytes that stay free on the file system. */
  readonly reserveBytes: number
  /** As `BackupSource` has them. */
  readonly source: {
    size(name: string): Promise<number | undefined>
    read(name: string, offset: number, length: number): Promise<Buffer>
    stored(name: string): Promise<StoredWal | undefined>
    readStored(name: string, offset: number, length: number): Promise<Buffer>
  }
  readonly logger: Logger
}

export interface ReadyWal {
  /**
   * Somebody wants this file of the archive: gives its size, once it lies ready where it is a segment and can be had
   * so; undefined: the archive does not have it. Segments that are wanted one after another are made ready ahead, more
   * with each.
   * @throws as `BackupSource.walSize`
   */
  wanted(name: string): Promise<number | undefined>
  /** Nobody wants any for now: takes away what lies ready, and what is coming. Never rejects. */
  clear(): Promise<void>
}

/** How making a segment ready ended: its bytes, or why it does not lie there. */
type Outcome = number | 'absent' | 'not to be had'

interface Segment {
  /** Never rejects. */
  readonly outcome: Promise<Outcome>
  dropped: boolean
}

type Read = (offset: number, length: number) => Promise<Buffer>

/** Source of names and sizes: PostgreSQL, access/xlog_internal.h (XLogFileName, IsValidWalSegSize). */
const SEGMENT = /^[0-9A-F]{24}$/
const [MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES] = [1024 ** 2, 1024 ** 3]
/** As initdb makes them unless told otherwise. */
const USUAL_SEGMENT_BYTES = 16 * 1024 ** 2
/** Ahead of the one that is wanted: at most so many, and so many bytes, but one however large. */
const AHEAD_SEGMENTS = 4
const AHEAD_BYTES = 64 * 1024 ** 2
/** On their way at once, and pieces of each: enough to hide a round trip, few enough that pages do not wait behind them. */
const SEGMENTS_AT_ONCE = 2
const PIECES_AT_ONCE = 4
const PIECE_BYTES = 1024 ** 2
/** With a megabyte at once, for which the page cache looks for larger pages, a segment took half as much time again. */
const WRITE_BYTES = 128 * 1024

export function createReadyWal(options: ReadyWalOptions): ReadyWal {
  const { directory, drafts, owner, reserveBytes, source, logger } = options
  const segments = new Map<string, Segment>()
  let coming = 0
  /** What was wanted last. */
  let current: string | undefined
  /** Of all segments of an instance; known from the first on. */
  let segmentBytes: number | undefined
  /** How many are made ready ahead. */
  let ahead = 0
  /** The first after the current one that cannot be had; asked for again once another is wanted. */
  let missing: string | undefined

  async function wanted(name: string): Promise<number | undefined> {
    if (!SEGMENT.test(name)) return source.size(name)
    for (const again of [true, false]) {
      const segment = turnTo(name)
      const outcome = await segment.outcome
      if (outcome === 'absent') return undefined
      if (outcome === 'not to be had') break
      if (existsSync(`${directory}/${name}`)) return outcome
      // It was taken before.
      if (again && segments.get(name) === segment) segments.delete(name)
    }
    return source.size(name)
  }

  function turnTo(name: string): Segment {
    if (current !== name) {
      const follows = current !== undefined && name === following(current)[0]
      ahead = follows ? 2 * ahead : 1
      missing = undefined
      current = name
      const kept = new Set([name, ...following(name)])
      for (const other of segments.keys()) if (!kept.has(other)) void drop(other)
    }
    const segment = segments.get(name) ?? begin(name)
    goOn()
    return segment
  }

  function goOn(): void {
    if (current === undefined || segmentBytes === undefined) return
    const most = Math.max(1, Math.floor(AHEAD_BYTES / segmentBytes))
    for (const next of following(current).slice(0, Math.min(ahead, most))) {
      if (coming >= SEGMENTS_AT_ONCE || next === missing) return
      if (!segments.has(next)) begin(next)
    }
  }

  /** Those that may be made ready after one; none before it is known how large they are. */
  function following(name: string): string[] {
    const names: string[] = []
    if (segmentBytes === undefined) return names
    for (
      let next = segmentAfter(name, segmentBytes);
      next !== undefined;
      next = segmentAfter(next, segmentBytes)
    ) {
      names.push(next)
      if (names.length === AHEAD_SEGMENTS) break
    }
    return names
  }

  function begin(name: string): Segment {
    coming += 1
    const { promise, resolve } = Promise.withResolvers<Outcome>()
    const segment: Segment = { outcome: promise, dropped: false }
    segments.set(name, segment)
    void fetch(name, segment)
      .catch((err: unknown): Outcome => {
        if (!segment.dropped) logger.debug({ err, file: name }, 'a WAL segment was not made ready')
        return 'not to be had'
      })
      .then((outcome) => {
        coming -= 1
        if (typeof outcome === 'number') segmentBytes = outcome
        else {
          if (segments.get(name) === segment) segments.delete(name)
          if (name !== current) missing ??= name
        }
        resolve(outcome)
        goOn()
      })
    return segment
  }

  async function fetch(name: string, segment: Segment): Promise<Outcome> {
    const stored = await source.stored(name)
    const bytes = stored === undefined ? await source.size(name) : segmentBytes
    if (stored === undefined && bytes === undefined) return 'absent'
    if (bytes !== undefined && !isSegmentSize(bytes)) return 'not to be had'
    // Half of one, as a server leaves it that ended while it archived, may have the size of a segment.
    if (segmentBytes !== undefined && bytes !== segmentBytes) return 'not to be had'
    const { bavail, bsize } = await statfs(drafts)
    if (bavail * bsize - (bytes ?? USUAL_SEGMENT_BYTES) < reserveBytes)
      throw new Error('there is no room for it')
    const draft = `${drafts}/${name}`
    let written = 0
    try {
      await rm(draft, { force: true })
      const file = await open(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
      try {
        if (process.geteuid?.() === 0) await file.chown(owner.uid, owner.gid)
        const plain =
          stored === undefined
            ? pieces(bytes ?? 0, (offset, length) => source.read(name, offset, length))
            : decoded(stored, (offset, length) => source.readStored(name, offset, length))
        for await (const piece of plain) {
          if (segment.dropped) throw new Error('nobody wants it any more')
          if (written + piece.length > (bytes ?? MAX_SEGMENT_BYTES)) throw new Error('it is too long')
          await write(file, piece, written)
          written += piece.length
        }
      } finally {
        await file.close()
      }
      if (!isSegmentSize(written) || written !== (bytes ?? written))
        throw new Error(`it has ${written} bytes`)
      await rename(draft, `${directory}/${name}`)
    } catch (error) {
      await rm(draft, { force: true })
      throw error
    }
    if (!segment.dropped) return written
    // Whoever dropped it looked before it was there.
    await remove(name)
    return 'not to be had'
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

async function write(file: FileHandle, piece: Buffer, position: number): Promise<void> {
  for (let at = 0; at < piece.length; at += WRITE_BYTES) {
    await file.write(piece, at, Math.min(WRITE_BYTES, piece.length - at), position + at)
  }
}

/** All bytes in their order, some pieces asked for ahead. A piece is gone once the next one is asked for. */
async function* pieces(bytes: number, read: Read): AsyncGenerator<Buffer> {
  const coming: Promise<Buffer>[] = []
  let asked = 0
  for (let given = 0; given < bytes; ) {
    for (; asked < bytes && coming.length < PIECES_AT_ONCE; asked += PIECE_BYTES) {
      const piece = read(asked, Math.min(PIECE_BYTES, bytes - asked))
      // Whoever takes it hears of it.
      piece.catch(() => undefined)
      coming.push(piece)
    }
    const piece = await coming.shift()
    if (piece?.length !== Math.min(PIECE_BYTES, bytes - given)) throw new Error('it ends early')
    yield piece
    given += piece.length
    freeBuffer(piece)
  }
}

/** What stored bytes decode to, compared with their checksum at the end. Pieces are gone as those of `pieces`. */
async function* decoded({ bytes, compression, sha1 }: StoredWal, read: Read): AsyncGenerator<Buffer> {
  const options = { chunkSize: WRITE_BYTES }
  const decoder = compression === 'gz' ? createGunzip(options) : createZstdDecompress(options)
  const hash = sha1 === undefined ? undefined : createHash('sha1')
  async function feed(): Promise<void> {
    for await (const piece of pieces(bytes, read)) {
      await new Promise<void>((resolve, reject) => {
        decoder.write(piece, (error) => (error ? reject(error) : resolve()))
      })
    }
    decoder.end()
  }
  feed().catch((error: Error) => decoder.destroy(error))
  try {
    for await (const piece of decoder as AsyncIterable<Buffer>) {
      hash?.update(piece)
      yield piece
      // A part of its memory may come to be written to.
      if (piece.length === piece.buffer.byteLength) freeBuffer(piece)
    }
  } finally {
    decoder.destroy()
  }
  if (hash !== undefined && hash.digest('hex') !== sha1) throw new Error('it does not match its checksum')
}

const isSegmentSize = (bytes: number): boolean =>
  bytes >= MIN_SEGMENT_BYTES && bytes <= MAX_SEGMENT_BYTES && Number.isInteger(Math.log2(bytes))
