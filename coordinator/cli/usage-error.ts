/** Wrong usage of the command line: the errors that end with exit status 2, before anything was done. */
import type { VerbDescription } from './verb-description.ts'

/** Wrong usage: exit status 2. The message names the flag and says what is right. */
export class UsageError extends Error {
  readonly verb: VerbDescription | undefined
  /** Further advice, a line each. */
  readonly hints: readonly string[]

  constructor(message: string, verb?: VerbDescription, hints: readonly string[] = []) {
    super(message)
    this.name = 'UsageError'
    this.verb = verb
    this.hints = hints
  }
}

/** Thrown by an option's `parse`; the message goes on after "it must be". */
export class InvalidValue extends Error {
  override readonly name = 'InvalidValue'
}
