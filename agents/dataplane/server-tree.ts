/** Sends one file tree over a data plane connection, no faster than the peer grants batches and the socket takes them. */
import type { BackupSource } from './backup-source.ts'
import { encodeEmpty, encodeHeader, FRAME } from './protocol.ts'
import { encodeTreeBatch } from './tree-codec.ts'

export interface TreeFlow {
  /** Settles when all was sent or the flow was stopped; rejects when the source fails. */
  readonly done: Promise<void>
  /** The peer takes that many batches more. */
  grant(batches: number): void
  /** There may be room on the socket again. */
  wake(): void
  stop(): void
}

export interface TreeFlowOptions {
  readonly id: number
  readonly source: BackupSource
  /** Entries to leave out from the start. */
  readonly skip: number
  /** Batches that may be sent before the peer grants more. */
  readonly credit: number
  readonly send: (head: Buffer, payload?: Buffer) => void
  /** Whether the connection takes more now. */
  readonly room: () => boolean
}

/** Credit that a peer can pile up; more makes no difference. */
const MAX_CREDIT = 1_000_000

export function sendTree(options: TreeFlowOptions): TreeFlow {
  const { id, source, send, room } = options
  let { skip, credit } = options
  let stopped = false
  let resume: (() => void) | undefined

  const wake = () => {
    if (stopped || (credit > 0 && room())) resume?.()
  }

  async function run(): Promise<void> {
    for await (const entries of source.tree()) {
      let at = Math.min(skip, entries.length)
      skip -= at
      while (at < entries.length) {
        while (!stopped && (credit <= 0 || !room())) {
          await new Promise<void>((resolve) => {
            resume = resolve
          })
        }
        if (stopped) return
        const { payload, count } = encodeTreeBatch(entries, at)
        send(encodeHeader(FRAME.treeBatch, id, payload.length), payload)
        credit -= 1
        at += count
      }
      if (stopped) return
    }
    send(encodeEmpty(FRAME.treeEnd, id))
  }

  return {
    done: run(),
    grant(batches) {
      credit = Math.min(credit + batches, MAX_CREDIT)
      wake()
    },
    wake,
    stop() {
      stopped = true
      wake()
    },
  }
}
