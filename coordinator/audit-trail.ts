/**
 * Moves what waits in the store into the audit stream, in its order and at least once: entries are saved together with
 * the change that they are about, and deleted once RabbitMQ has confirmed them. Nothing waits for it: while the stream is
 * away entries stay in the store, and everything else goes on.
 */
import type { Logger } from 'pino'
import type { AuditLog } from '../messages/audit-log.ts'
import { type Backoff, backoffMs } from '../messages/backoff.ts'
import { createOutageLog } from '../messages/outage-log.ts'
import { atMost, pause } from '../messages/wait.ts'
import type { Store } from './store/store.ts'

export interface AuditTrail {
  /** Writes from now on. */
  start(): void
  /** Writes nothing until the next start: another coordinator does. */
  pause(): void
  /** Resolves when nothing is written any more. */
  close(): Promise<void>
}

export interface AuditTrailOptions {
  readonly store: Pick<Store, 'auditEntries' | 'audited'>
  readonly log: AuditLog
  readonly logger: Logger
  /** Milliseconds between two looks into the store. Default 1 s. */
  readonly lookMs?: number
  /** Between two attempts. Default: 1 s to 60 s. */
  readonly backoff?: Backoff
}

/** Entries that are published together. */
const BATCH = 200
/** The next start writes what is being written then. */
const CLOSE_MS = 4_000

export function createAuditTrail(options: AuditTrailOptions): AuditTrail {
  const { store, log, logger, lookMs = 1_000, backoff = { firstMs: 1_000, maxMs: 60_000 } } = options
  /** Aborted when this coordinator is not active any more. */
  let turn: AbortController | undefined
  let work: Promise<void> = Promise.resolve()

  /** @returns whether there may be more */
  async function writeBatch(): Promise<boolean> {
    const waiting = await store.auditEntries(BATCH)
    if (waiting.length === 0) return false
    await log.append(waiting.map(({ entry }) => entry))
    await store.audited(waiting.map(({ number }) => number))
    return waiting.length === BATCH
  }

  async function write(over: AbortSignal): Promise<void> {
    const outage = createOutageLog({
      logger,
      failing: 'the audit stream cannot be written; its entries wait in the store',
      again: 'the audit stream is written again',
    })
    for (let failures = 0; !over.aborted; ) {
      try {
        const more = await writeBatch()
        outage.works()
        failures = 0
        if (!more) await pause(lookMs, over)
      } catch (error) {
        failures += 1
        if (over.aborted) return
        outage.failed(error)
        await pause(backoffMs(failures, backoff), over)
      }
    }
  }

  const stop = (): void => {
    turn?.abort()
    turn = undefined
  }

  return {
    start() {
      if (turn) return
      turn = new AbortController()
      const { signal } = turn
      work = work.then(() => write(signal))
    },
    pause: stop,
    async close() {
      stop()
      await log.close()
      await atMost(CLOSE_MS, work)
    },
  }
}
