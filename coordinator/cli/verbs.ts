/** The verbs that the command line runs itself. Each is loaded on demand, so that running one loads no other. */
import type { RunnableVerb } from './verb.ts'
import type { RunnableGroup } from './verb-group.ts'

/** In the order of the overview. */
const VERBS = {
  up: async () => (await import('./verbs/up.ts')).up,
  backups: async () => (await import('./verbs/backups.ts')).backups,
  sessions: async () => (await import('./verbs/sessions.ts')).sessions,
  show: async () => (await import('./verbs/show.ts')).show,
  watch: async () => (await import('./verbs/watch.ts')).watch,
  agents: async () => (await import('./verbs/agents.ts')).agents,
  adopt: async () => (await import('./verbs/adopt.ts')).adopt,
  doctor: async () => (await import('./verbs/doctor.ts')).doctor,
  check: async () => (await import('./verbs/check.ts')).check,
  publish: async () => (await import('./verbs/publish.ts')).publish,
  republish: async () => (await import('./verbs/republish.ts')).republish,
  promote: async () => (await import('./verbs/promote.ts')).promote,
  advance: async () => (await import('./verbs/advance.ts')).advance,
  retry: async () => (await import('./verbs/retry.ts')).retry,
  cancel: async () => (await import('./verbs/cancel.ts')).cancel,
  extend: async () => (await import('./verbs/extend.ts')).extend,
  unpublish: async () => (await import('./verbs/unpublish.ts')).unpublish,
  forget: async () => (await import('./verbs/forget.ts')).forget,
  export: async () => (await import('./verbs/export.ts')).exportVerb,
  rescue: async () => (await import('./verbs/rescue.ts')).rescue,
  fleet: async () => (await import('./verbs/fleet.ts')).fleet,
  agent: async () => (await import('./verbs/agent.ts')).agent,
  authority: async () => (await import('./verbs/authority.ts')).authority,
  broker: async () => (await import('./verbs/broker.ts')).broker,
  audit: async () => (await import('./verbs/audit.ts')).audit,
  'dead-letters': async () => (await import('./verbs/dead-letters.ts')).deadLetters,
  man: async () => (await import('./verbs/man.ts')).man,
  completion: async () => (await import('./verbs/completion.ts')).completion,
  certificates: async () => (await import('./verbs/certificates.ts')).certificates,
} as const satisfies Record<string, () => Promise<RunnableVerb | RunnableGroup>>

export type VerbName = keyof typeof VERBS

export const VERB_NAMES = Object.keys(VERBS) as readonly VerbName[]

/** Undefined: there is no such verb. */
export async function loadVerb(name: string): Promise<RunnableVerb | RunnableGroup | undefined> {
  return Object.hasOwn(VERBS, name) ? await VERBS[name as VerbName]() : undefined
}

/** The verb that the first word names, or the first two, and the words after it. Undefined: there is no such verb. */
export async function findVerb([first = '', ...rest]: readonly string[]): Promise<{
  verb: RunnableVerb | RunnableGroup | undefined
  rest: readonly string[]
}> {
  const verb = await loadVerb(first)
  const [second = ''] = rest
  if (verb === undefined || !('actions' in verb) || !Object.hasOwn(verb.actions, second))
    return { verb, rest }
  return { verb: await verb.actions[second]?.(), rest: rest.slice(1) }
}

/** All of them, for the overview. */
export async function loadVerbs(
  names: readonly VerbName[] = VERB_NAMES,
): Promise<(RunnableVerb | RunnableGroup)[]> {
  return Promise.all(names.map((name) => VERBS[name]()))
}
