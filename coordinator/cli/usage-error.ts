/** Wrong usage of the command line: the errors that end with exit status 2, before anything was done. */
import type { ErrorCode } from '../../messages/errors.ts'
import type { VerbDescription } from './verb-description.ts'

/** Wrong usage: exit status 2. The message names the flag and the correct form. */
export class UsageError extends Error {
  readonly verb: VerbDescription | undefined
  /** Further advice, one line each. */
  readonly hints: readonly string[]
  readonly code: ErrorCode

  constructor(
    message: string,
    verb?: VerbDescription,
    hints: readonly string[] = [],
    code: ErrorCode = 'usage',
  ) {
    super(message)
    this.name = 'UsageError'
    this.code = code
    this.verb = verb
    this.hints = hints
  }
}

/** Thrown by an option's `parse`; the message completes the sentence "it must be …". */
export class InvalidValue extends Error {
  override readonly name = 'InvalidValue'
}
