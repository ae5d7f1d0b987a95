/**
 * What a verb of the command line is: one description from which parsing and help both come. Parsing is commander's;
 * here its errors become usage errors that name the flag and show the right form.
 */
import { Command, CommanderError, Option } from 'commander'
import type { Context } from './context.ts'

export interface OptionDescription {
  /** Flag and value name: `--port <N>`. */
  readonly flags: string
  readonly description: string
  readonly required?: boolean
  /** May be given several times; the value is an array. */
  readonly repeatable?: boolean
  /** What happens without it, for the help. */
  readonly defaultText?: string
  /** The value may hold a password: messages do not repeat it. */
  readonly secret?: boolean
  /** Turns the text into the value. @throws InvalidValue that says what a right value is */
  readonly parse?: (text: string) => unknown
}

export interface ArgumentDescription {
  readonly name: string
  readonly required: boolean
  readonly description: string
}

export type Entry = readonly [term: string, description: string]

/** What a verb says about itself: enough for `--help`. */
export interface VerbDescription {
  readonly name: string
  readonly summary: string
  /** Paragraphs. */
  readonly description: readonly string[]
  readonly arguments?: readonly ArgumentDescription[]
  readonly options: readonly OptionDescription[]
  /** Sections of its own, before the exit status: a title and entries. */
  readonly sections?: readonly (readonly [title: string, entries: readonly Entry[]])[]
  readonly exitStatus: readonly Entry[]
  readonly environment: readonly Entry[]
  readonly files: readonly Entry[]
  /** Command line, and what it does. */
  readonly examples: readonly Entry[]
}

export interface Call<Options> {
  readonly context: Context
  readonly options: Options
  /** The first argument; empty when there is none. */
  readonly argument: string
  /** The arguments after it. */
  readonly further: readonly string[]
}

export interface Verb<Options = never> extends VerbDescription {
  /** Resolves to the exit status. */
  run(call: Call<Options>): Promise<number>
}

/** A verb whose options are known to itself alone. */
export interface RunnableVerb extends VerbDescription {
  /** @throws UsageError before anything is done */
  start(context: Context, args: readonly string[]): Promise<number>
}

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

export function defineVerb<Options>(verb: Verb<Options>): RunnableVerb {
  return {
    ...verb,
    start: (context, args) => {
      const { options, given } = parseArguments(verb, args)
      const [argument = '', ...further] = given
      return verb.run({ context, options: options as Options, argument, further })
    },
  }
}

/** `howdah publish --repository <R> … [options]`: the required parts spelled out. */
export function synopsis(verb: VerbDescription): string {
  const parts = ['howdah', verb.name]
  for (const { name, required } of verb.arguments ?? []) parts.push(required ? name : `[${name}]`)
  for (const option of verb.options) if (option.required === true) parts.push(form(option))
  if (verb.options.some((option) => option.required !== true)) parts.push('[options]')
  return parts.join(' ')
}

/** An option as it is written: `--port N`. */
export function form(option: OptionDescription): string {
  return option.flags.replace(/[<>]/g, '')
}

function parseArguments(verb: VerbDescription, args: readonly string[]) {
  const command = new Command(verb.name)
    .exitOverride()
    .configureOutput({ writeErr: () => {}, writeOut: () => {} })
    .helpOption(false)
    .allowExcessArguments(false)
  for (const { name, required } of verb.arguments ?? [])
    command.argument(required ? `<${name}>` : `[${name}]`)
  for (const description of verb.options) command.addOption(commanderOption(description, verb))
  try {
    command.parse([...args], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) throw usageErrorOf(error, verb)
    throw error
  }
  const options: Record<string, unknown> = command.opts()
  const missing = verb.options.filter(
    (option) => option.required === true && options[new Option(option.flags).attributeName()] === undefined,
  )
  if (missing.length > 0) {
    throw new UsageError(`missing ${missing.map(form).join(', ')}`, verb)
  }
  return { options, given: command.args }
}

function commanderOption(description: OptionDescription, verb: VerbDescription): Option {
  const option = new Option(description.flags, description.description)
  const parse = (text: string): unknown => {
    try {
      return description.parse === undefined ? text : description.parse(text)
    } catch (error) {
      if (!(error instanceof InvalidValue)) throw error
      const value = description.secret === true ? 'the value' : `"${text}"`
      throw new UsageError(`${form(description)}: ${value} is wrong, it must be ${error.message}`, verb)
    }
  }
  if (description.repeatable === true) {
    option.default([])
    option.argParser((text: string, previous: unknown) => [...(previous as unknown[]), parse(text)])
  } else if (description.flags.includes('<')) {
    option.argParser((text: string, previous: unknown) => {
      if (previous !== undefined) throw new UsageError(`${form(description)} is given twice`, verb)
      return parse(text)
    })
  }
  return option
}

function usageErrorOf(error: CommanderError, verb: VerbDescription): UsageError {
  const [message = '', ...hints] = error.message.replace(/^error: /, '').split('\n')
  return new UsageError([message.replace(/[<>]/g, ''), ...hints].join(' '), verb)
}
