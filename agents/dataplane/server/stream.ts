/**
 * Owns the streams of one connection of the data plane's server: trees and ranges, each no faster than the peer's credit
 * and the socket allow. Limits how many run at once.
 */
import { HowdahError } from '../../../messages/errors.ts'

/** Credit that a peer can accumulate; more makes no difference. */
const MAX_CREDIT = 2 ** 30

/** Flow control of one stream. */
export class StreamGate {
  /** Aborts the reads of the stream when it is stopped. */
  readonly signal: AbortSignal
  readonly #stop = new AbortController()
  readonly #room: () => boolean
  #credit: number
  #resume: (() => void) | undefined

  /** `room`: whether the connection accepts more now. */
  constructor(credit: number, room: () => boolean) {
    this.signal = this.#stop.signal
    this.#credit = credit
    this.#room = room
  }

  /** Resolves when something may be sent: true, or false once the stream was stopped. */
  async pass(): Promise<boolean> {
    while (!this.signal.aborted && (this.#credit <= 0 || !this.#room())) {
      await new Promise<void>((resolve) => {
        this.#resume = resolve
      })
    }
    return !this.signal.aborted
  }

  spend(credit: number): void {
    this.#credit -= credit
  }

  grant(credit: number): void {
    this.#credit = Math.min(this.#credit + credit, MAX_CREDIT)
    this.wake()
  }

  /** There may be room on the connection again. */
  wake(): void {
    this.#resume?.()
    this.#resume = undefined
  }

  stop(): void {
    this.#stop.abort()
    this.wake()
  }
}

export class StreamTable {
  readonly #limit: number
  readonly #gates = new Map<number, StreamGate>()

  constructor(limit: number) {
    this.#limit = limit
  }

  has(id: number): boolean {
    return this.#gates.has(id)
  }

  /**
   * Runs one stream to its end.
   * @throws HowdahError `repository_unavailable` when there are too many already, and the errors of `send`
   */
  async run(id: number, gate: StreamGate, send: () => Promise<void>): Promise<void> {
    if (this.#gates.size >= this.#limit) {
      throw new HowdahError(
        'repository_unavailable',
        'The mount server already runs as many streams for this target as it allows.',
      )
    }
    this.#gates.set(id, gate)
    try {
      await send()
    } finally {
      this.#gates.delete(id)
    }
  }

  grant(id: number, credit: number): void {
    this.#gates.get(id)?.grant(credit)
  }

  stop(id: number): void {
    this.#gates.get(id)?.stop()
  }

  wake(): void {
    for (const gate of this.#gates.values()) gate.wake()
  }

  stopAll(): void {
    for (const gate of this.#gates.values()) gate.stop()
  }
}
