/**
 * Makes one WAL segment ready: fetches it as it is stored, or decoded, writes it to a draft and renames that to its place
 * once it is complete. Which segments are made ready, and when, is decided by ready-wal.ts.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, rename, rm, statfs, unlink } from 'node:fs/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import type { StoredWal } from '../../../dataplane/backup-source.ts'
import { freeBuffer } from '../../../dataplane/protocol/freed-buffers.ts'

export interface ReadySegmentOptions {
  /** Where ready segments are. The instance's user may remove them, and anything else. */
  readonly directory: string
  /** Where they are written first, on the same file system; only this process may write there. */
  readonly drafts: string
  readonly owner: { readonly uid: number; readonly gid: number }
  /** Bytes to keep free on the file system. */
  readonly reserveBytes: number
  /** As in `BackupSource`. */
  readonly source: {
    size(name: string): Promise<number | undefined>
    read(name: string, offset: number, length: number): Promise<Buffer>
    stored(name: string): Promise<StoredWal | undefined>
    readStored(name: string, offset: number, length: number): Promise<Buffer>
  }
}

/** How making a segment ready ended: its bytes, or why it is not ready. */
export type ReadyOutcome = number | 'absent' | 'unavailable'

type Read = (offset: number, length: number) => Promise<Buffer>

/** Source of the sizes: PostgreSQL, access/xlog_internal.h (IsValidWalSegSize). */
const [MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES] = [1024 ** 2, 1024 ** 3]
/** The default of initdb. */
const DEFAULT_SEGMENT_BYTES = 16 * 1024 ** 2
/** Pieces requested at a time: enough to hide a round trip, few enough that reads of pages do not wait behind them. */
const PIECES_IN_FLIGHT = 4
const PIECE_BYTES = 1024 ** 2
/** Writing a megabyte at once, for which the page cache looks for large pages, took half as much time again. */
const WRITE_BYTES = 128 * 1024

/**
 * Makes a segment ready.
 * @param segmentBytes the size of all segments of the instance, where it is known
 * @param dropped whether the segment is no longer wanted; then nothing of it is left
 * @throws Error when it is damaged, there is no space for it, or it was dropped; and as `source`
 */
export async function makeSegmentReady(
  name: string,
  segmentBytes: number | undefined,
  dropped: () => boolean,
  options: ReadySegmentOptions,
): Promise<ReadyOutcome> {
  const { directory, drafts, reserveBytes, source } = options
  const stored = await source.stored(name)
  const bytes = stored === undefined ? await source.size(name) : segmentBytes
  if (stored === undefined && bytes === undefined) return 'absent'
  if (bytes !== undefined && !isSegmentSize(bytes)) return 'unavailable'
  // A partial segment, left by a server that crashed while archiving, may have the size of a smaller one.
  if (segmentBytes !== undefined && bytes !== segmentBytes) return 'unavailable'
  const { bavail, bsize } = await statfs(drafts)
  if (bavail * bsize - (bytes ?? DEFAULT_SEGMENT_BYTES) < reserveBytes)
    throw new Error('there is no space for it')
  const draft = `${drafts}/${name}`
  let written = 0
  try {
    const decodedPieces =
      stored === undefined
        ? pieces(bytes ?? 0, (offset, length) => source.read(name, offset, length))
        : decoded(stored, (offset, length) => source.readStored(name, offset, length))
    written = await writeDraft(draft, decodedPieces, bytes ?? MAX_SEGMENT_BYTES, dropped, options)
    if (!isSegmentSize(written) || written !== (bytes ?? written)) throw new Error(`it has ${written} bytes`)
    await rename(draft, `${directory}/${name}`)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
  if (!dropped()) return written
  // It was dropped before it was renamed, so the caller could not remove it.
  await unlink(`${directory}/${name}`).catch(() => undefined)
  return 'unavailable'
}

/** Writes pieces to a new file that belongs to the owner. @returns bytes written @throws Error when they exceed `limit` */
async function writeDraft(
  path: string,
  content: AsyncIterable<Buffer>,
  limit: number,
  dropped: () => boolean,
  { owner }: ReadySegmentOptions,
): Promise<number> {
  await rm(path, { force: true })
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  let written = 0
  try {
    if (process.geteuid?.() === 0) await file.chown(owner.uid, owner.gid)
    for await (const piece of content) {
      if (dropped()) throw new Error('it is no longer wanted')
      if (written + piece.length > limit) throw new Error('it is too long')
      await write(file, piece, written)
      written += piece.length
    }
  } finally {
    await file.close()
  }
  return written
}

async function write(file: FileHandle, piece: Buffer, position: number): Promise<void> {
  for (let at = 0; at < piece.length; at += WRITE_BYTES) {
    await file.write(piece, at, Math.min(WRITE_BYTES, piece.length - at), position + at)
  }
}

/** All bytes in order, with some pieces requested ahead. The memory of a piece is reused once the next one is requested. */
async function* pieces(bytes: number, read: Read): AsyncGenerator<Buffer> {
  const inFlight: Promise<Buffer>[] = []
  let requested = 0
  for (let given = 0; given < bytes; ) {
    for (; requested < bytes && inFlight.length < PIECES_IN_FLIGHT; requested += PIECE_BYTES) {
      const piece = read(requested, Math.min(PIECE_BYTES, bytes - requested))
      // Reported when the piece is awaited.
      piece.catch(() => undefined)
      inFlight.push(piece)
    }
    const piece = await inFlight.shift()
    if (piece?.length !== Math.min(PIECE_BYTES, bytes - given)) throw new Error('it ends early')
    yield piece
    given += piece.length
    freeBuffer(piece)
  }
}

/** Decodes stored bytes and verifies their checksum at the end. The memory of pieces is reused as by `pieces`. */
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
      // Only if nothing else shares its memory.
      if (piece.length === piece.buffer.byteLength) freeBuffer(piece)
    }
  } finally {
    decoder.destroy()
  }
  if (hash !== undefined && hash.digest('hex') !== sha1) throw new Error('it does not match its checksum')
}

const isSegmentSize = (bytes: number): boolean =>
  bytes >= MIN_SEGMENT_BYTES && bytes <= MAX_SEGMENT_BYTES && Number.isInteger(Math.log2(bytes))
