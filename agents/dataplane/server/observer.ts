/** What the data plane's server tells about its work to whoever counts it. Called for each request: must be fast, and not throw. */
import type { RequestFrame } from './request.ts'

export interface ServedObserver {
  /** A request was answered; a stream was sent completely. `bytes`: of its payload. */
  answered(request: RequestFrame | 'tree' | 'ranges', milliseconds: number, bytes: number): void
  /** A request was answered by an error. */
  failed(): void
  /** A connection was refused: by its certificate, its ticket, its version, or because it broke the protocol. */
  refused(): void
}

/** Counts nothing. */
export const UNOBSERVED: ServedObserver = {
  answered: () => undefined,
  failed: () => undefined,
  refused: () => undefined,
}
