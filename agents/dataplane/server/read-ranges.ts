/**
 * Owns `BackupSource.readMany` by means of `read`: several reads run at a time, and their bytes are yielded in order. For
 * sources that have the files on this machine.
 */
import type { BackupSource, FileRange, RangeData } from '../backup-source.ts'

const PIECE_BYTES = 1024 * 1024

/** Reads that run or wait for the caller; enough that all cores decode while one file is slow. */
const MAX_PIECES = 64
const MAX_BYTES = 8 * 1024 * 1024

interface Piece extends FileRange {
  /** Number of its range. */
  readonly index: number
}

interface Pending {
  readonly piece: Piece
  /** Undefined when it cannot be read. */
  readonly data: Promise<Buffer | undefined>
}

/**
 * The ranges' bytes in pieces of at most 1 MiB, up to 8 MiB ahead of the caller. From the first piece on that cannot
 * be read, a range is left out. Rejects only with the signal's reason.
 */
export async function* readRanges(
  read: BackupSource['read'],
  ranges: readonly FileRange[],
  signal?: AbortSignal,
): AsyncGenerator<RangeData> {
  const given = new AbortController()
  const stop = signal === undefined ? given.signal : AbortSignal.any([signal, given.signal])
  const upcoming = pieces(ranges)
  const pending: Pending[] = []
  let bytes = 0
  let failed = -1

  const fill = () => {
    while (pending.length < MAX_PIECES && bytes < MAX_BYTES) {
      const { value: piece, done } = upcoming.next()
      if (done === true) return
      const data = read(piece.file, piece.offset, piece.length, stop).catch(() => undefined)
      pending.push({ piece, data })
      bytes += piece.length
    }
  }

  try {
    while (true) {
      signal?.throwIfAborted()
      fill()
      const next = pending.shift()
      if (next === undefined) return
      const { index, file, offset, length } = next.piece
      const data = await next.data
      signal?.throwIfAborted()
      bytes -= length
      if (data === undefined) failed = index
      else if (index !== failed && data.length > 0) yield { file, offset, data }
    }
  } finally {
    given.abort()
  }
}

function* pieces(ranges: readonly FileRange[]): Generator<Piece, undefined> {
  for (const [index, { file, offset, length }] of ranges.entries()) {
    for (let done = 0; done < length; done += PIECE_BYTES) {
      yield { index, file, offset: offset + done, length: Math.min(PIECE_BYTES, length - done) }
    }
  }
}
