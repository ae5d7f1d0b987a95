/** What a verb of the command line says about itself: the one source of its parsing and of its manual page. */

export interface OptionDescription {
  /** Flag and value name: `--port <N>`. */
  readonly flags: string
  readonly description: string
  readonly required?: boolean
  /** May be repeated; the value is an array. */
  readonly repeatable?: boolean
  /** The values that there are; a completion offers them. */
  readonly choices?: readonly string[]
  /** The default, as the help shows it. */
  readonly defaultText?: string
  /** The value may contain a password: messages do not repeat it. */
  readonly secret?: boolean
  /** Turns the text into the value. @throws InvalidValue that describes a valid value */
  readonly parse?: (text: string) => unknown
}

export interface ArgumentDescription {
  readonly name: string
  readonly required: boolean
  readonly description: string
  /** The values that there are; a completion offers them. */
  readonly choices?: readonly string[]
}

export type Entry = readonly [term: string, description: string]

/** Everything that `--help` shows. */
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

/** `howdah publish --repository <R> … [options]`: the required parts spelled out. */
export function synopsis(verb: VerbDescription): string {
  const parts = ['howdah', verb.name]
  for (const { name, required } of verb.arguments ?? []) parts.push(required ? name : `[${name}]`)
  for (const option of verb.options) if (option.required === true) parts.push(optionForm(option))
  if (verb.options.some((option) => option.required !== true)) parts.push('[options]')
  return parts.join(' ')
}

/** An option as it is written: `--port N`. */
export function optionForm(option: OptionDescription): string {
  return option.flags.replace(/[<>]/g, '')
}

/** The name of an option, `--port`, and of its value, `N`; undefined: it takes none. */
export function optionParts({ flags }: OptionDescription): { name: string; value: string | undefined } {
  const [, name = flags, value] = /^(\S+)(?: <(.*)>)?$/.exec(flags) ?? []
  return { name, value }
}

/** Each title and its entries, in the order of a manual page, without those that are empty. */
export function sectionsOf(verb: VerbDescription): (readonly [title: string, entries: readonly Entry[]])[] {
  const sections: (readonly [string, readonly Entry[]])[] = [
    ['ARGUMENTS', (verb.arguments ?? []).map(({ name, description }) => [name, description] as const)],
    ['OPTIONS', [...verb.options.map(optionEntry), ['--help', 'Show this page.']]],
    ...(verb.sections ?? []),
    ['EXIT STATUS', verb.exitStatus],
    ['ENVIRONMENT', verb.environment],
    ['FILES', verb.files],
    ['EXAMPLES', verb.examples],
  ]
  return sections.filter(([, entries]) => entries.length > 0)
}

function optionEntry(option: OptionDescription): Entry {
  const remarks = [
    ...(option.required === true ? ['Required.'] : []),
    ...(option.repeatable === true ? ['May be repeated.'] : []),
    ...(option.defaultText === undefined ? [] : [`Default: ${option.defaultText}.`]),
  ]
  return [optionForm(option), [option.description, ...remarks].join(' ')]
}
