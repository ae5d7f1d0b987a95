/** A verb with actions, `howdah agent setup`: each action is a verb of two words, with a page and options of its own. */
import { UsageError } from './usage-error.ts'
import type { RunnableVerb } from './verb.ts'
import type { VerbDescription } from './verb-description.ts'

/** Each is loaded on demand, so that running one loads no other. In the order of the help. */
export type Actions = Readonly<Record<string, () => Promise<RunnableVerb>>>

export interface VerbGroup {
  readonly name: string
  readonly summary: string
  /** Paragraphs. */
  readonly description: readonly string[]
  /** By the second word; the name of the verb is both words. */
  readonly actions: Actions
}

export interface RunnableGroup extends RunnableVerb {
  readonly actions: Actions
}

export function defineGroup(group: VerbGroup): RunnableGroup {
  const choices = Object.keys(group.actions)
  const verb: RunnableGroup = {
    ...group,
    arguments: [{ name: 'ACTION', required: true, description: 'What to do, as below.', choices }],
    options: [],
    exitStatus: [],
    environment: [],
    files: [],
    examples: [],
    // Reached without an action that there is only.
    start: async (_context, [given]) => {
      throw new UsageError(
        `${given === undefined ? 'ACTION is missing' : `there is no "howdah ${group.name} ${given}"`}; ACTION is one of ${choices.join(', ')}`,
        verb,
      )
    },
  }
  return verb
}

/** The pages of a verb: its own, and those of its actions. */
export async function pagesOf(verb: RunnableVerb | RunnableGroup): Promise<VerbDescription[]> {
  if (!('actions' in verb)) return [verb]
  const actions = await Promise.all(Object.values(verb.actions).map((load) => load()))
  const entries = actions.map(({ name, summary }) => [`howdah ${name}`, summary] as const)
  return [{ ...verb, sections: [['ACTIONS', entries]] }, ...actions]
}
