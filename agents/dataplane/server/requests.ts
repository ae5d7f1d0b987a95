/**
 * Owns the requests of one data plane connection that are answered by one frame: those that are queued, and those that
 * run, within the connection's limits.
 */
import type { BackupSource } from '../backup-source.ts'
import type { FrameWriter } from '../protocol/frames.ts'
import { malformed } from '../protocol/protocol.ts'
import type { ServedObserver } from './observer.ts'
import type { ServerRequest } from './request.ts'

export interface RequestTableOptions {
  readonly limits: {
    /** Requests that run at once. */
    readonly requests: number
    /** Bytes that are being read or wait to be sent. A single request may exceed it. */
    readonly bytesInFlight: number
  }
  readonly writer: FrameWriter
  readonly observer: Pick<ServedObserver, 'answered'>
  /** A request failed without having been cancelled. */
  readonly onFailure: (id: number, error: unknown) => void
  /** One ended while others wait: there may be room for more. */
  readonly onRoom: () => void
}

export class RequestTable {
  readonly #options: RequestTableOptions
  #waiting: ServerRequest[] = []
  readonly #running = new Map<number, AbortController>()
  /** Controllers that were not aborted, for reuse: creating one takes longer than everything else a request needs. */
  readonly #unused: AbortController[] = []
  #runningBytes = 0

  constructor(options: RequestTableOptions) {
    this.#options = options
  }

  get waiting(): number {
    return this.#waiting.length
  }

  isRunning(id: number): boolean {
    return this.#running.has(id)
  }

  add(request: ServerRequest): void {
    this.#waiting.push(request)
  }

  /**
   * Runs queued requests while the limits allow it. `isTaken`: whether something else has the number.
   * @throws HowdahError `invalid_message` when two requests have one number
   */
  admit(source: BackupSource, isTaken: (id: number) => boolean): void {
    const { limits, writer } = this.#options
    while (this.#waiting.length > 0 && this.#running.size < limits.requests) {
      const [next] = this.#waiting
      const taken = this.#runningBytes + writer.pendingBytes
      if (next === undefined || (taken > 0 && taken + next.cost > limits.bytesInFlight)) return
      this.#waiting.shift()
      if (this.#running.has(next.id) || isTaken(next.id)) throw malformed('request with a used number')
      void this.#run(next, source)
    }
  }

  /** The answer is not needed any more. */
  cancel(id: number): void {
    const at = this.#waiting.findIndex((request) => request.id === id)
    if (at >= 0) this.#waiting.splice(at, 1)
    this.#running.get(id)?.abort()
  }

  cancelAll(): void {
    this.#waiting = []
    for (const controller of this.#running.values()) controller.abort()
  }

  async #run(request: ServerRequest, source: BackupSource): Promise<void> {
    const { id, cost, kind } = request
    const startedAt = performance.now()
    const controller = this.#unused.pop() ?? new AbortController()
    this.#running.set(id, controller)
    this.#runningBytes += cost
    try {
      const [head, payload, owned] = await request.run(source, controller.signal)
      if (!controller.signal.aborted) {
        const bytes = payload?.length ?? 0
        this.#options.writer.send(head, payload, owned)
        this.#options.observer.answered(kind, performance.now() - startedAt, bytes)
      }
    } catch (error) {
      if (!controller.signal.aborted) this.#options.onFailure(id, error)
    }
    this.#running.delete(id)
    if (!controller.signal.aborted) this.#unused.push(controller)
    this.#runningBytes -= cost
    if (this.#waiting.length > 0) this.#options.onRoom()
  }
}
