/**
 * The error of "cannot now": something that every message needs (the store, the broker) is away for the moment, and the
 * message being handled is not to blame. A consumer whose handler throws it waits and calls the handler again: nothing is
 * counted against the message, and nothing is dead-lettered.
 */
import { type ErrorCode, HowdahError } from './errors.ts'

export class Unavailable extends HowdahError {
  /** @param options `code` default: `operation_failed` */
  constructor(
    message: string,
    { code = 'operation_failed', cause }: { code?: ErrorCode; cause?: unknown } = {},
  ) {
    super(code, message, { cause })
    this.name = 'Unavailable'
  }
}

/** Whether the error, or the cause of an error that wraps it, is an `Unavailable`. */
export function isUnavailable(error: unknown): boolean {
  // Bounded: an error can be its own cause.
  for (let depth = 0, at = error; depth < 8 && at instanceof Error; depth += 1, at = at.cause) {
    if (at instanceof Unavailable) return true
  }
  return false
}
