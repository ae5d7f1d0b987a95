/**
 * Owns how the data plane's client receives the file tree. After a reconnect it resumes where it stopped, because the
 * order of a backup's entries never changes.
 */
import type { TreeEntry } from '../backup-source.ts'
import { encodeTree, FRAME, malformed } from '../protocol/protocol.ts'
import { decodeTreeBatch } from '../protocol/tree-codec.ts'
import type { ExchangeHost } from './exchange.ts'
import { receiveStream } from './stream.ts'

/** Batches that may be in flight or wait for the caller. */
const WINDOW = 16

export function receiveTree(host: ExchangeHost): AsyncGenerator<readonly TreeEntry[]> {
  let received = 0
  return receiveStream<readonly TreeEntry[]>(host, {
    cost: 0,
    window: WINDOW,
    request: (id, credit) => encodeTree(id, received, credit),
    take(type, payload) {
      if (type === FRAME.treeEnd) return undefined
      if (type !== FRAME.treeBatch) throw malformed('answer')
      const entries = decodeTreeBatch(payload)
      if (entries.length === 0) throw malformed('treeBatch')
      received += entries.length
      return entries
    },
    weigh: () => 1,
  })
}
