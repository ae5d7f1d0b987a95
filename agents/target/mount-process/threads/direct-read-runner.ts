/** The main thread's side of direct reads: fetches, replies to the kernel, writes to the fetched store, reports completion. */
import { writeSync } from 'node:fs'
import { constants } from 'node:os'
import type { Logger } from 'pino'
import type { ObserveLatency } from '../../../../config/monitoring/latencies.ts'
import { OP, OUT, OUT_HEADER_BYTES } from '../../filesystem/drivers/kernel/protocol.ts'
import { blockChecks } from '../../filesystem/fetched/block-check.ts'
import { MAX_DIRECT_READ_BYTES } from '../../filesystem/reads/direct-reads.ts'
import { type DirectReadRing, FIELD, SLOTS, WORD, WRITTEN } from './direct-read-ring.ts'

export interface DirectReadRunnerOptions {
  readonly ring: DirectReadRing
  /** The FUSE device. */
  readonly device: number
  /** As `Services.read`. */
  readonly read: (file: number, offset: number, length: number) => Promise<Buffer>
  /** A direct read completed for which the engine waits. */
  readonly wakeEngine: () => void
  /** A direct read failed; to be reported to the engine. */
  readonly onFailure: (slot: number, error: unknown) => void
  /** Blocks were written to the fetched store. */
  readonly onFetched: () => void
  /** As of `serve`. */
  readonly observe?: ObserveLatency
  readonly logger: Logger
}

export interface DirectReadRunner {
  /** Starts the direct reads queued since the last call. */
  poll(): void
  /** No direct read is started, answered or written from now on: the device and the store may be closed. */
  stop(): void
}

export function createDirectReadRunner(options: DirectReadRunnerOptions): DirectReadRunner {
  const { ring, device, read, wakeEngine, onFailure, onFetched, observe = () => undefined, logger } = options
  const { words, fields } = ring
  const answer = Buffer.alloc(OUT_HEADER_BYTES + MAX_DIRECT_READ_BYTES)
  const header = new Int32Array(answer.buffer, answer.byteOffset, OUT_HEADER_BYTES / 4)
  let requested = 0
  let done = 0
  let stopped = false

  async function run(slot: number): Promise<void> {
    const at = slot * FIELD.COUNT
    const field = (name: number): number => fields[at + name] as number
    const startedAt = performance.now()
    let data: Buffer
    try {
      data = await read(field(FIELD.FILE), field(FIELD.OFFSET), field(FIELD.LENGTH))
    } catch (error) {
      if (stopped) return
      send(field(FIELD.LOW), field(FIELD.HIGH), constants.errno.EIO, 0)
      observe(OP.READ, performance.now() - startedAt, 0)
      onFailure(slot, error)
      return
    }
    if (stopped) return
    const bytes = data.copy(answer, OUT_HEADER_BYTES, field(FIELD.FROM), field(FIELD.TO))
    send(field(FIELD.LOW), field(FIELD.HIGH), 0, bytes)
    observe(OP.READ, performance.now() - startedAt, bytes)
    const written = write(field(FIELD.FD), data, field(FIELD.POSITION))
    if (written) fields.set(blockChecks(data), at + FIELD.CHECKS)
    words[WORD.DONE_QUEUE + (done & (SLOTS - 1))] = written ? slot | WRITTEN : slot
    done = (done + 1) | 0
    Atomics.store(words, WORD.DONE, done)
    if (Atomics.load(words, WORD.AWAITED + slot) === 1) wakeEngine()
    onFetched()
  }

  /** `error`: a positive errno, or 0. */
  function send(low: number, high: number, error: number, bytes: number): void {
    header[OUT.LENGTH] = OUT_HEADER_BYTES + bytes
    header[OUT.ERROR] = -error
    header[OUT.UNIQUE] = low
    header[OUT.UNIQUE + 1] = high
    try {
      writeSync(device, answer, 0, OUT_HEADER_BYTES + bytes)
    } catch (err) {
      // The request was aborted, or the mount is gone.
      logger.debug({ err }, 'the kernel refused a reply')
    }
  }

  function write(fd: number, data: Buffer, position: number): boolean {
    try {
      for (let written = 0; written < data.length; ) {
        written += writeSync(fd, data, written, data.length - written, position + written)
      }
      return true
    } catch (err) {
      logger.warn({ err }, 'a fetched block could not be kept')
      return false
    }
  }

  return {
    poll() {
      // Direct reads queued from here on notify again.
      Atomics.store(words, WORD.NOTIFIED, 0)
      for (; !stopped && requested !== Atomics.load(words, WORD.REQUESTED); requested = (requested + 1) | 0) {
        void run(words[WORD.REQUESTED_QUEUE + (requested & (SLOTS - 1))] as number)
      }
    },
    stop() {
      stopped = true
    },
  }
}
