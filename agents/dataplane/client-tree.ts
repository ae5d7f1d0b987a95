/**
 * The file tree, as the data plane's client receives it: batches ahead of the caller up to a window, and after a
 * reconnect from where it stopped, because a backup's order never changes.
 */
import type { TreeEntry } from './backup-source.ts'
import type { Exchange, ExchangeHost } from './exchange.ts'
import { encodeTree, encodeTreeCredit, FRAME, malformed } from './protocol.ts'
import { decodeTreeBatch } from './tree-codec.ts'

/** Batches that may be under way or wait for the caller. */
const WINDOW = 16

export async function* receiveTree(host: ExchangeHost): AsyncGenerator<readonly TreeEntry[]> {
  const id = host.nextId()
  const batches: TreeEntry[][] = []
  let received = 0
  let ended = false
  let failure: Error | undefined
  let wake: (() => void) | undefined

  const exchange: Exchange = {
    frame: encodeTree(id, 0, WINDOW),
    cost: 0,
    deadline: Number.POSITIVE_INFINITY,
    connection: undefined,
    attempts: 0,
    retry: undefined,
    reason: undefined,
    answer(type, payload) {
      if (type === FRAME.treeBatch) {
        const entries = decodeTreeBatch(payload)
        if (batches.length >= WINDOW || entries.length === 0) throw malformed('treeBatch')
        batches.push(entries)
        received += entries.length
        reframe()
      } else if (type === FRAME.treeEnd) {
        ended = true
      } else {
        throw malformed('answer')
      }
      wake?.()
      return ended
    },
    fail(error) {
      failure = error
      wake?.()
    },
  }
  // What a reconnect asks for: the entries still missing, as many batches as the caller has room for.
  const reframe = () => {
    exchange.frame = encodeTree(id, received, WINDOW - batches.length)
  }

  host.start(id, exchange)
  try {
    while (true) {
      const batch = batches.shift()
      if (batch !== undefined) {
        reframe()
        if (!ended) exchange.connection?.send(encodeTreeCredit(id, 1))
        yield batch
        continue
      }
      if (failure !== undefined) throw failure
      if (ended) return
      exchange.deadline = host.now() + host.deadlineMs
      await new Promise<void>((resolve) => {
        wake = resolve
      })
      exchange.deadline = Number.POSITIVE_INFINITY
    }
  } finally {
    host.abandon(id)
  }
}
