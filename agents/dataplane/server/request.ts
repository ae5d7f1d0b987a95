/** Owns the translation of one read frame into a call of the backup, and of its result into the frame that answers it. */
import type { BackupSource } from '../backup-source.ts'
import { encodeHeader, FRAME } from '../protocol/protocol.ts'
import { decodeRead, decodeWalName, decodeWalRead, encodeSize, encodeStored } from '../protocol/read-codec.ts'

export interface ServerRequest {
  readonly id: number
  readonly kind: RequestFrame
  /** Bytes of memory that the request and its answer may take. */
  readonly cost: number
  /** The answer's frame: one buffer, or header and payload, and whether the payload has no other user. */
  readonly run: (
    source: BackupSource,
    signal: AbortSignal,
  ) => Promise<readonly [head: Buffer, payload?: Buffer, owned?: boolean]>
}

/** Memory of a request besides its payload: its objects and its frame. Bytes, roughly. */
const REQUEST_BYTES = 512

/** The frames that `decodeRequest` takes. */
export type RequestFrame = 'read' | 'walRead' | 'walReadStored' | 'walSize' | 'walStored'

/** @throws HowdahError `invalid_message` | `message_too_large` */
export function decodeRequest(
  type: (typeof FRAME)[RequestFrame],
  id: number,
  payload: Buffer,
): ServerRequest {
  switch (type) {
    case FRAME.read: {
      const { file, offset, length } = decodeRead(payload)
      return {
        id,
        kind: 'read',
        cost: length + REQUEST_BYTES,
        run: async (source, signal) => dataFrame(id, await source.read(file, offset, length, signal), length),
      }
    }
    case FRAME.walRead: {
      const { name, offset, length } = decodeWalRead(payload)
      return {
        id,
        kind: 'walRead',
        cost: length + REQUEST_BYTES,
        run: async (source, signal) =>
          dataFrame(id, await source.walRead(name, offset, length, signal), length, true),
      }
    }
    case FRAME.walReadStored: {
      const { name, offset, length } = decodeWalRead(payload)
      return {
        id,
        kind: 'walReadStored',
        cost: length + REQUEST_BYTES,
        run: async (source, signal) =>
          dataFrame(id, await source.walReadStored(name, offset, length, signal), length, true),
      }
    }
    case FRAME.walSize: {
      const name = decodeWalName(payload)
      return {
        id,
        kind: 'walSize',
        cost: REQUEST_BYTES,
        run: async (source) => [encodeSize(id, await source.walSize(name))],
      }
    }
    case FRAME.walStored: {
      const name = decodeWalName(payload)
      return {
        id,
        kind: 'walStored',
        cost: REQUEST_BYTES,
        run: async (source) => [encodeStored(id, await source.walStored(name))],
      }
    }
  }
}

function dataFrame(id: number, data: Buffer, limit: number, owned = false): [Buffer, Buffer, boolean] {
  if (data.length > limit)
    throw new Error(`a backup source returned ${data.length} bytes where ${limit} were requested`)
  return [encodeHeader(FRAME.data, id, data.length), data, owned]
}
