/** The engine's services, each a call to the main thread. */
import type { RangeData } from '../../../dataplane/backup-source.ts'
import type { Services } from '../../filesystem/services.ts'
import type { Calls } from './calls.ts'
import type { MainCalls } from './engine-messages.ts'

export interface RemoteServices {
  readonly services: Services
  /** Handles a piece that arrived for a `readMany`. */
  readonly piece: (stream: number, file: number, offset: number, data: Buffer) => void
}

export function remoteServices({ call }: Calls<MainCalls>): RemoteServices {
  const streams = new Map<number, (piece: RangeData) => void>()
  let lastStream = 0

  return {
    services: {
      read: (file, offset, length) => call('read', file, offset, length),
      async readMany(ranges, onPiece) {
        const stream = ++lastStream
        streams.set(stream, onPiece)
        try {
          await call('readMany', stream, ranges)
        } finally {
          streams.delete(stream)
        }
      },
      walSize: (name) => call('walSize', name),
      walRead: (name, offset, length) => call('walRead', name, offset, length),
      // A copy is transferred: readers still need the bytes.
      write: (fd, data, position) => call('write', fd, Buffer.from(data), position),
      sync: (fd) => call('sync', fd),
      syncDirectory: (fd) => call('syncDirectory', fd),
      syncFileSystem: () => call('syncFileSystem'),
      close: (fd) => call('close', fd),
      commit: (batch) => call('commit', batch),
      reserveFetched: (unused) => call('reserveFetched', unused),
      saveFetched: (chunks) => call('saveFetched', chunks),
      dropFetched: (file, slots) => call('dropFetched', file, slots),
    },
    piece: (stream, file, offset, data) => streams.get(stream)?.({ file, offset, data }),
  }
}
