/** The environment variables that Howdah reads. One that is misspelled is an error, and not a default in silence. */
import { describeKeys } from './describe.ts'
import { clientSchema, coordinatorSchema, mountAgentSchema, targetAgentSchema } from './schema.ts'

const PREFIX = 'HOWDAH_'
/** Those that are no key of a configuration. */
const OTHERS = ['HOWDAH_CONFIG', 'HOWDAH_STATE', 'HOWDAH_MANAGEMENT_URL', 'HOWDAH_JOIN_TOKEN']

/** All of them: roles on one machine may share one environment. */
const KNOWN: ReadonlySet<string> = new Set([
  ...OTHERS,
  ...[
    ...describeKeys(clientSchema),
    ...describeKeys(coordinatorSchema),
    ...describeKeys(mountAgentSchema),
    ...describeKeys(targetAgentSchema),
  ].flatMap(({ env }) => env ?? []),
])

/** What is wrong with the names of the variables; undefined: nothing. */
export function environmentProblem(env: NodeJS.ProcessEnv): string | undefined {
  const unknown = Object.keys(env).filter((name) => name.startsWith(PREFIX) && !KNOWN.has(name))
  if (unknown.length === 0) return undefined
  return unknown
    .sort()
    .map((name) => `there is no variable ${name}; the most similar one is ${mostSimilar(name)}`)
    .join('; ')
}

function mostSimilar(name: string): string {
  const [nearest = ''] = [...KNOWN].sort((a, b) => distance(a, name) - distance(b, name))
  return nearest
}

/** The number of letters to insert, remove or replace (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (const [j, other] of [...b].entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1)
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
