/**
 * Detects sequential scans and decides how far to read ahead of them. There are no open files to identify readers by, so
 * a file's recent readers are identified by their positions. Fetches nothing itself.
 */

/** One reader of a file. Positions in bytes. */
export interface ReadStream {
  /** Where the next read of a scan begins. */
  next: number
  /** Bytes to read ahead. */
  window: number
  /** End of the read-ahead requested so far. */
  ahead: number
}

/** Concurrent readers tracked for one file. */
const MAX_STREAMS = 8
/** Maximum read-ahead of one reader. */
const MAX_WINDOW = 8 * 1024 * 1024
/** The kernel's parallel reads of one scan may arrive out of order by a few requests, but by no more than this. */
const REORDERED_REQUESTS = 8
const MAX_REORDERING = 1024 * 1024

/**
 * Records a read of bytes `position` to `end` of a file of which the repository has `size` bytes; returns the range to
 * read ahead now, if any. A first read has none; each read that continues an earlier one doubles the window.
 */
export function advance(
  streams: ReadStream[],
  position: number,
  end: number,
  size: number,
): { readonly from: number; readonly to: number } | undefined {
  const length = end - position
  const tolerance = Math.min(length * REORDERED_REQUESTS, MAX_REORDERING)
  const index = streams.findIndex(({ next }) => Math.abs(position - next) <= tolerance)
  if (index < 0) {
    // Least recently used first.
    if (streams.length >= MAX_STREAMS) streams.shift()
    streams.push({ next: end, window: 0, ahead: end })
    return undefined
  }
  const stream = streams[index]
  if (stream === undefined) return undefined
  if (index < streams.length - 1) {
    streams.splice(index, 1)
    streams.push(stream)
  }
  // Already read: a request that arrived late, or a repeated one.
  if (end <= stream.next) return undefined
  stream.next = end
  stream.window = Math.min(Math.max(stream.window, length) * 2, MAX_WINDOW)
  const from = Math.max(stream.ahead, end)
  const to = Math.min(end + stream.window, size)
  // In portions worth a round trip, except for the rest of the file.
  if (to <= from || to - from < Math.min(stream.window / 2, size - from)) return undefined
  stream.ahead = to
  return { from, to }
}

/** The range returned by `advance` was not requested; the next read returns it again. */
export function undoReadAhead(streams: ReadStream[], from: number): void {
  const stream = streams.at(-1)
  if (stream !== undefined) stream.ahead = from
}
