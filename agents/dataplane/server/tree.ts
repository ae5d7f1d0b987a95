/** Owns sending one file tree over a data plane connection; credit is counted in batches. */
import type { BackupSource } from '../backup-source.ts'
import { encodeEmpty, encodeHeader, FRAME } from '../protocol/protocol.ts'
import { encodeTreeBatch } from '../protocol/tree-codec.ts'
import type { StreamGate } from './stream.ts'

/**
 * Resolves when all was sent, or the gate was stopped. `skip` entries are left out at the start.
 * @throws the errors of the source
 */
export async function sendTree(
  id: number,
  source: BackupSource,
  skip: number,
  gate: StreamGate,
  send: (head: Buffer, payload?: Buffer) => void,
): Promise<void> {
  let skipping = skip
  for await (const entries of source.tree()) {
    let at = Math.min(skipping, entries.length)
    skipping -= at
    while (at < entries.length) {
      if (!(await gate.pass())) return
      const { payload, count } = encodeTreeBatch(entries, at)
      send(encodeHeader(FRAME.treeBatch, id, payload.length), payload)
      gate.spend(1)
      at += count
    }
    if (gate.signal.aborted) return
  }
  send(encodeEmpty(FRAME.treeEnd, id))
}
