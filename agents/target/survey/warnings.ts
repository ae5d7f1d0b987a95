/** The warnings of a survey, for the user who publishes. They contain no secrets. Pure. */
import type { DatabaseSurvey } from './database-survey.ts'
import type { MissingLibrary } from './role-settings.ts'

export interface Survey {
  readonly databases: readonly DatabaseSurvey[]
  readonly missingLibraries: readonly MissingLibrary[]
  /** Databases that cannot be connected to here, and why. */
  readonly unusable: readonly { readonly database: string; readonly why: string }[]
  /** Number of databases that were not surveyed, since there are too many or the deadline had passed. */
  readonly left: number
}

/** Items that one warning lists; the rest is counted. */
const MOST_LISTED = 8
const MAX_TEXT = 400

/** One warning for each kind. */
export function surveyWarnings({ databases, missingLibraries, unusable, left }: Survey): string[] {
  const each = (texts: (of: DatabaseSurvey) => readonly string[]): string[] =>
    databases.flatMap((of) => texts(of).map((text) => `${text} in "${of.database}"`))
  const passwords = databases.reduce((sum, of) => sum + of.passwords, 0)
  const servers = each((of) =>
    of.servers.map(({ name, wrapper, host }) => `${name} (${wrapper}${host === null ? '' : ` to ${host}`})`),
  )
  const kinds: [readonly string[], (list: string) => string][] = [
    [
      servers,
      (list) =>
        `Foreign servers are defined; reads and writes through them go to other machines${
          passwords > 0 ? `, and ${passwords} user mappings have passwords for them` : ''
        }: ${list}.`,
    ],
    [
      each((of) => of.workers),
      (list) =>
        `Citus has other nodes in its metadata, to which it sends statements on distributed tables: ${list}.`,
    ],
    [
      each((of) => of.extensions),
      (list) => `Extensions are installed whose functions or queries can reach other machines: ${list}.`,
    ],
    [
      each((of) => of.jobs.map(({ scheduler, jobs }) => `${jobs} of ${scheduler}`)),
      (list) => `It contains jobs of production, which run if their scheduler is started on it: ${list}.`,
    ],
    [
      each((of) => of.loginTriggers),
      (list) =>
        `Login triggers fire for every client except Howdah: ${list}. "--setting event_triggers=off" disables them.`,
    ],
    [
      missingLibraries.map(({ role, database, library }) => `${library} (${whose(role, database)})`),
      (list) =>
        `Sessions load libraries that this machine does not have, and are refused: ${list}. Install them, or ALTER ROLE or ALTER DATABASE … RESET session_preload_libraries; Howdah itself connects without them.`,
    ],
    [
      unusable.map(({ database, why }) => `"${database}": ${why}`),
      (list) => `Databases that cannot be entered here: ${list}.`,
    ],
  ]
  const warnings = kinds.filter(([found]) => found.length > 0).map(([found, words]) => words(listed(found)))
  if (left > 0) warnings.push(`${left} databases were not surveyed for connections to other machines.`)
  return warnings
}

function whose(role: string | undefined, database: string | undefined): string {
  const parts = [role && `role "${role}"`, database && `database "${database}"`].filter((part) => part)
  return parts.join(' in ') || 'all roles'
}

function listed(found: readonly string[]): string {
  const some = found
    .slice(0, MOST_LISTED)
    .map((text) => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text))
  return some.join('; ') + (found.length > MOST_LISTED ? `; and ${found.length - MOST_LISTED} more` : '')
}
