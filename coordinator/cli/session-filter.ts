/** The options of `howdah sessions` that choose which sessions are listed. */
import type { CommandBody } from '../../messages/definitions.ts'
import { Time } from '../../messages/primitives.ts'
import { SESSION_STATES, type SessionState } from '../../messages/values.ts'
import { parseLifetime, parseName, parseRepositoryName } from './options.ts'
import { parseLabel, parseReference, type TagOptions } from './tag-options.ts'
import { InvalidValue } from './usage-error.ts'
import type { OptionDescription } from './verb-description.ts'

export interface FilterOptions extends TagOptions {
  readonly all?: true
  readonly inState?: readonly SessionState[]
  readonly target?: string
  readonly repository?: string
  readonly instance?: string
  readonly since?: When
  readonly until?: When
  readonly limit?: number
}

/** A time, or seconds ago. */
export type When = { readonly time: string } | { readonly ago: number }

const MAX_ROWS = 1_000_000

export const filterOptions: readonly OptionDescription[] = [
  { flags: '--all', description: 'Include closed and failed sessions, however many they are.' },
  {
    flags: '--in-state <STATE>',
    description: `Only sessions in this state, closed and failed ones too: ${SESSION_STATES.join(', ')}.`,
    repeatable: true,
    choices: SESSION_STATES,
    parse: parseState,
  },
  { flags: '--target <T>', description: 'Only sessions on this target.', parse: parseName },
  { flags: '--repository <R>', description: 'Only sessions of this repository.', parse: parseName },
  { flags: '--instance <I>', description: 'Only sessions of this instance.', parse: parseRepositoryName },
  { flags: '--reference <TEXT>', description: 'Only sessions with this reference.', parse: parseReference },
  {
    flags: '--label <KEY=VALUE>',
    description: 'Only sessions with this label.',
    repeatable: true,
    parse: parseLabel,
  },
  {
    flags: '--since <TIME>',
    description: 'Only sessions made since then: a time ago like 4h or 2d, or 2026-11-22T07:30:00+01:00.',
    parse: parseWhen,
  },
  { flags: '--until <TIME>', description: 'Only sessions made before then; as --since.', parse: parseWhen },
  {
    flags: '--limit <N>',
    description: 'At most so many sessions, the newest.',
    defaultText: '100; with --all no limit',
    parse: parseLimit,
  },
]

/** The body of the command. `now`: times ago are counted from it. */
export function filterOf(options: FilterOptions, now: Date): CommandBody<'session.list'> {
  const { all, inState = [], target, repository, instance, reference, label = [], since, until } = options
  return {
    ...(all === true && { all }),
    ...(inState.length > 0 && { state: [...inState] }),
    ...(target !== undefined && { target }),
    ...(repository !== undefined && { repository }),
    ...(instance !== undefined && { instance }),
    ...(reference !== undefined && { reference }),
    ...(label.length > 0 && { labels: Object.fromEntries(label) }),
    ...(since && { since: timeOf(since, now) }),
    ...(until && { until: timeOf(until, now) }),
  }
}

export function timeOf(when: When, now: Date): string {
  return 'time' in when ? when.time : new Date(now.getTime() - when.ago * 1000).toISOString()
}

export function parseWhen(text: string): When {
  if (Time.safeParse(text).success) return { time: text }
  try {
    return { ago: parseLifetime(text) }
  } catch {
    throw new InvalidValue('a time ago like 30m, 4h or 2d, or one like 2026-11-22T07:30:00+01:00')
  }
}

function parseState(text: string): SessionState {
  const state = SESSION_STATES.find((one) => one === text)
  if (state === undefined) throw new InvalidValue(`one of ${SESSION_STATES.join(', ')}`)
  return state
}

function parseLimit(text: string): number {
  const limit = Number(text)
  if (!/^\d+$/.test(text) || limit < 1 || limit > MAX_ROWS)
    throw new InvalidValue(`a number from 1 to ${MAX_ROWS}`)
  return limit
}
