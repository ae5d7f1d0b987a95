/** Errors that are about the message itself, and not about the broker or its permissions. */
import { type ErrorCode, HowdahError } from './errors.ts'

const CODES: ReadonlySet<ErrorCode> = new Set(['invalid_message', 'message_too_large', 'internal'])

/** Whether the message can never be sent as it is: every later attempt would meet the same error. */
export function isUnsendable(error: unknown): error is HowdahError {
  return error instanceof HowdahError && CODES.has(error.code)
}
