/** What the data plane's client has under way with the server: one exchange per request, and who runs them. */
import type { HowdahError } from '../../../messages/errors.ts'
import type { ClientConnection } from './connection.ts'

/** Something that waits for frames from the server. */
export interface Exchange {
  /** What asks for it, now or after a reconnect: for what has not come yet. */
  readonly frame: Buffer
  /** Bytes that the answer may take. */
  readonly cost: number
  /** When it fails, on the clock of `performance.now`; Infinity while it waits for its caller. */
  deadline: number
  connection: ClientConnection | undefined
  attempts: number
  retry: NodeJS.Timeout | undefined
  /** The passing error that the server last answered with. */
  reason: HowdahError | undefined
  /** Takes a frame and says whether it was the last. @throws HowdahError when the frame does not belong here */
  answer(type: number, payload: Buffer): boolean
  fail(error: Error): void
}

/** What a stream needs of the client. */
export interface ExchangeHost {
  nextId(): number
  now(): number
  readonly deadlineMs: number
  start(id: number, exchange: Exchange): void
  /** Ends an exchange that the server need not answer any more. */
  abandon(id: number): void
}
