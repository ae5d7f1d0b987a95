/**
 * Owns how the data plane's client receives many ranges: split into requests that the server accepts, and resumed after
 * a reconnect where they stopped.
 */
import type { FileRange, RangeData } from '../backup-source.ts'
import { FRAME, MAX_RANGES, MAX_RANGES_BYTES, malformed } from '../protocol/protocol.ts'
import { decodePiece, encodeReadMany } from '../protocol/ranges-codec.ts'
import type { ExchangeHost } from './exchange.ts'
import { receiveStream } from './stream.ts'

/** Bytes that may be in flight or wait for the caller. */
const WINDOW = 8 * 1024 * 1024

/** @throws HowdahError as `BackupSource.readMany` */
export async function* receiveRanges(
  host: ExchangeHost,
  ranges: readonly FileRange[],
  signal?: AbortSignal,
): AsyncGenerator<RangeData> {
  for (const request of requests(ranges)) yield* receiveRequest(host, request, signal)
}

function receiveRequest(
  host: ExchangeHost,
  ranges: readonly FileRange[],
  signal: AbortSignal | undefined,
): AsyncGenerator<RangeData> {
  /** The range that arrived last, and how many bytes of it did. */
  let at = 0
  let received = 0

  function missing(): readonly FileRange[] {
    const [range, ...rest] = ranges.slice(at)
    if (range === undefined) return []
    const { file, offset, length } = range
    // A range that is complete stays in the request, empty, so that the request is never without one.
    return [{ file, offset: offset + received, length: length - received }, ...rest]
  }

  return receiveStream<RangeData>(
    host,
    {
      cost: WINDOW,
      window: WINDOW,
      request: (id, credit) => encodeReadMany(id, { credit, first: at, ranges: missing() }),
      take(type, payload) {
        if (type === FRAME.rangesEnd) return undefined
        if (type !== FRAME.rangeData) throw malformed('answer')
        const { index, offset, data } = decodePiece(payload)
        if (index !== at) received = 0
        const range = ranges[index]
        if (
          range === undefined ||
          index < at ||
          offset !== range.offset + received ||
          received + data.length > range.length
        ) {
          throw malformed('rangeData')
        }
        at = index
        received += data.length
        return { file: range.file, offset, data }
      },
      weigh: ({ data }) => data.length,
    },
    signal,
  )
}

/** Each has as many ranges and bytes as one request may have; a range that is too long becomes several. */
function* requests(ranges: readonly FileRange[]): Generator<readonly FileRange[]> {
  let request: FileRange[] = []
  let bytes = 0
  for (const { file, offset, length } of ranges) {
    for (let done = 0; done < length; ) {
      if (request.length === MAX_RANGES || bytes === MAX_RANGES_BYTES) {
        yield request
        request = []
        bytes = 0
      }
      const part = Math.min(length - done, MAX_RANGES_BYTES - bytes)
      request.push({ file, offset: offset + done, length: part })
      bytes += part
      done += part
    }
  }
  if (request.length > 0) yield request
}
