/**
 * Tells scans from random touches, and how far to be ahead of a scan. There are no open files to tell readers apart by,
 * so each file's recent readers are known by where they are. Fetches nothing itself.
 */

/** One reader of a file. Positions in bytes. */
export interface ReadStream {
  /** Where the next read begins, if it goes on. */
  next: number
  /** Bytes to be ahead of the reader. */
  window: number
  /** Up to where reading ahead was started. */
  ahead: number
}

/** Readers of one file that are told apart. */
const MAX_STREAMS = 8
/** The most that is read ahead of one reader. */
const MAX_WINDOW = 8 * 1024 * 1024
/** The kernel's parallel reads of one scan come out of order by some requests, and not by more than this. */
const REORDERED_REQUESTS = 8
const MAX_REORDERING = 1024 * 1024

/**
 * Notes a read of bytes `position` to `end` of a file, of which the repository has `size`; gives the bytes to read ahead
 * now, if any. A first read brings nothing; each that goes on where one ended doubles the window.
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
    // The one that was read least recently is first.
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
  // Read before: an overtaken request of the kernel, or the same bytes again.
  if (end <= stream.next) return undefined
  stream.next = end
  stream.window = Math.min(Math.max(stream.window, length) * 2, MAX_WINDOW)
  const from = Math.max(stream.ahead, end)
  const to = Math.min(end + stream.window, size)
  // In portions worth a round trip, unless it is the rest of the file.
  if (to <= from || to - from < Math.min(stream.window / 2, size - from)) return undefined
  stream.ahead = to
  return { from, to }
}

/** What was to be read ahead was not; the next read asks for it again. */
export function undoReadAhead(streams: ReadStream[], from: number): void {
  const stream = streams.at(-1)
  if (stream !== undefined) stream.ahead = from
}
