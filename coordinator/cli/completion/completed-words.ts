/** What a shell can complete, from the same descriptions as `--help`. */
import { optionParts, type VerbDescription } from '../verb-description.ts'

/** What the value of an option or an argument is completed with. */
export type Completed = 'files' | 'directories' | 'nothing' | readonly string[]

export interface CompletedOption {
  /** `--port` */
  readonly name: string
  readonly description: string
  /** Its value: how it is called, and what completes it; undefined: it takes none. */
  readonly value: { readonly name: string; readonly completed: Completed } | undefined
  readonly repeatable: boolean
}

export interface CompletedVerb {
  /** One word, or two: `agent setup`. */
  readonly name: string
  readonly summary: string
  readonly argument: { readonly name: string; readonly completed: Completed } | undefined
  readonly options: readonly CompletedOption[]
}

/** @param pages of all verbs and roles */
export function completedVerbs(pages: readonly VerbDescription[]): CompletedVerb[] {
  const names = pages.map(({ name }) => name).filter(isFirstWord)
  return pages.map(({ name, summary, arguments: given = [], options }) => {
    const [argument] = given
    return {
      name,
      summary,
      argument: argument && {
        name: argument.name,
        completed: argument.choices ?? (argument.name === 'VERB' ? names : 'nothing'),
      },
      options: [
        ...options.map((option): CompletedOption => {
          const { name: flag, value } = optionParts(option)
          return {
            name: flag,
            description: firstSentence(option.description),
            value:
              value === undefined ? undefined : { name: value, completed: option.choices ?? ofValue(value) },
            repeatable: option.repeatable === true,
          }
        }),
        { name: '--help', description: 'Show the manual page', value: undefined, repeatable: false },
      ],
    }
  })
}

/** Whether a verb is named by one word, so that it is completed as the first. */
export function isFirstWord(name: string): boolean {
  return !name.includes(' ')
}

function ofValue(value: string): Completed {
  if (/\bFILE$/.test(value)) return 'files'
  return /\b(DIR|PATH|PLACE)$/.test(value) ? 'directories' : 'nothing'
}

/** For the descriptions that zsh and fish show. */
function firstSentence(text: string): string {
  return text.split(/[.:;] |\.$/, 1)[0] ?? text
}
