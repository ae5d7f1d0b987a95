/** Owns the contract between a request of the data plane's client, an exchange, and the table that runs it. */
import type { HowdahError } from '../../../messages/errors.ts'
import type { ClientConnection } from './connection.ts'

/** A request that waits for frames from the server. */
export interface Exchange {
  /** The request, now or after a reconnect: for what has not arrived yet. */
  readonly frame: Buffer
  /** Bytes that the answer may have. */
  readonly cost: number
  /** When it fails, by the clock of `performance.now`; Infinity while it waits for its caller. */
  deadline: number
  connection: ClientConnection | undefined
  attempts: number
  retry: NodeJS.Timeout | undefined
  /** The transient error that the server answered with last. */
  reason: HowdahError | undefined
  /** Takes a frame; returns whether it was the last. @throws HowdahError when the frame does not belong here */
  answer(type: number, payload: Buffer): boolean
  fail(error: Error): void
}

/** What a stream needs from the table. */
export interface ExchangeHost {
  nextId(): number
  now(): number
  readonly deadlineMs: number
  start(id: number, exchange: Exchange): void
  /** Cancels an exchange; the server need not answer it any more. */
  abandon(id: number): void
}
