/** Owns sending the ranges of one `readMany` over a data plane connection; credit is counted in bytes. */
import type { BackupSource, FileRange, RangeData } from '../backup-source.ts'
import { encodeEmpty, FRAME, MAX_PIECE_BYTES } from '../protocol/protocol.ts'
import { encodePieceHead, type RangesRequest } from '../protocol/ranges-codec.ts'
import type { StreamGate } from './stream.ts'

/**
 * Resolves when all was sent, or the gate was stopped.
 * @throws the errors of the source
 */
export async function sendRanges(
  id: number,
  source: BackupSource,
  { first, ranges }: RangesRequest,
  gate: StreamGate,
  send: (head: Buffer, payload?: Buffer) => void,
): Promise<void> {
  let index = 0
  /** Bytes of range `index` that were sent. */
  let sent = 0

  /** Whether these bytes are the next ones of range `index`. */
  const continues = (range: FileRange, { file, offset, data }: RangeData) =>
    range.file === file && range.offset + sent === offset && sent + data.length <= range.length

  try {
    for await (const piece of source.readMany(ranges, gate.signal)) {
      if (piece.data.length === 0) continue
      let range = ranges[index]
      while (range !== undefined && !continues(range, piece)) {
        index += 1
        sent = 0
        range = ranges[index]
      }
      if (range === undefined || piece.data.length > MAX_PIECE_BYTES) {
        throw new Error('a backup source returned bytes that were not requested')
      }
      if (!(await gate.pass())) return
      send(encodePieceHead(id, first + index, piece.offset, piece.data.length), piece.data)
      gate.spend(piece.data.length)
      sent += piece.data.length
    }
  } catch (error) {
    if (gate.signal.aborted) return
    throw error
  }
  if (!gate.signal.aborted) send(encodeEmpty(FRAME.rangesEnd, id))
}
