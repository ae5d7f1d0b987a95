/** Reads a stream to its end in turns of a bounded number of bytes, so that several decodes share the processor. */
import type { Readable } from 'node:stream'
import type { Turns } from './decode-turns.ts'

/** Bytes that are read in one turn. */
const TURN_BYTES = 1024 * 1024

export interface ReadInTurns {
  readonly turns: Turns
  /** Whether a reader waits; asked again whenever the next turn is given. */
  readonly urgent: () => boolean
  readonly signal: AbortSignal
  /** Called with each piece, in order, one at a time. */
  readonly write: (piece: Buffer) => Promise<void>
  /** Called after each turn. */
  readonly turnEnded: () => void
}

/** @throws what the stream or `write` throws, the signal's reason */
export async function readInTurns(stream: Readable, options: ReadInTurns): Promise<void> {
  const { turns, urgent, signal, write, turnEnded } = options
  const pieces = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  // One piece is decoded while the one before it is written.
  const pull = () => {
    const next = pieces.next()
    next.catch(() => undefined)
    return next
  }
  let next = pull()
  let over = false
  try {
    while (!over) {
      const endTurn = await turns.take(urgent)
      try {
        for (let taken = 0; taken < TURN_BYTES && !over; ) {
          signal.throwIfAborted()
          const piece = await next
          over = piece.done === true
          if (piece.done === true) break
          next = pull()
          await write(piece.value)
          taken += piece.value.length
        }
      } finally {
        endTurn()
      }
      turnEnded()
    }
  } finally {
    await pieces.return?.()
  }
}
