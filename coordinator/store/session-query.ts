/** Which sessions a list shows: a query that both stores understand, and its SQL. */
import type { Labels } from '../../messages/labels.ts'
import type { SessionState } from '../../messages/values.ts'

/** The place of a session in the order of lists: newest first, and by id among those made in the same millisecond. */
export interface ListPosition {
  /** ISO 8601, UTC, with milliseconds. */
  readonly createdAt: string
  readonly id: string
}

export interface SessionQuery {
  /** Those too that are settled (`isSettled`). */
  readonly settled: boolean
  readonly idPrefix?: string | undefined
  readonly states?: readonly SessionState[] | undefined
  readonly target?: string | undefined
  readonly repository?: string | undefined
  readonly instance?: string | undefined
  readonly reference?: string | undefined
  /** All of them. */
  readonly labels?: Labels | undefined
  /** Made at this time or later. Times are as in `ListPosition`. */
  readonly since?: string | undefined
  /** Made before this time. */
  readonly until?: string | undefined
  /** Changed at this time or later. */
  readonly changedSince?: string | undefined
  /** Only those that come after this place. */
  readonly after?: ListPosition | undefined
  readonly limit?: number | undefined
}

export interface Statement {
  readonly sql: string
  readonly values: readonly (string | number)[]
}

/** What differs between the stores. */
export interface Dialect {
  readonly table: string
  readonly isOpen: string
  /** The parameter of that number, from 1. */
  parameter(number: number): string
  /** Whether the id begins with the parameter. */
  hasPrefix(parameter: string): string
  /** The value of a label, whose key is the parameter. */
  label(parameter: string): string
}

export const SQLITE: Dialect = {
  table: 'session',
  isOpen: 'settled = 0',
  parameter: () => '?',
  hasPrefix: (parameter) => `id GLOB ${parameter} || '*'`,
  label: (parameter) => `labels ->> ('$."' || ${parameter} || '"')`,
}

export const POSTGRES: Dialect = {
  table: 'howdah.session',
  isOpen: 'NOT settled',
  parameter: (number) => `$${number}`,
  hasPrefix: (parameter) => `starts_with(id, ${parameter})`,
  label: (parameter) => `labels ->> ${parameter}`,
}

/** Selects the documents of a page, in the order of lists. Keys of labels and prefixes are as the contract allows. */
export function pageStatement(query: SessionQuery, dialect: Dialect): Statement {
  const values: (string | number)[] = []
  const given = (value: string | number): string => dialect.parameter(values.push(value))
  const conditions = query.settled ? [] : [dialect.isOpen]
  const where = (value: string | undefined, condition: (parameter: string) => string): void => {
    if (value !== undefined) conditions.push(condition(given(value)))
  }
  where(query.idPrefix, dialect.hasPrefix)
  for (const column of ['target', 'repository', 'instance', 'reference'] as const) {
    where(query[column], (parameter) => `${column} = ${parameter}`)
  }
  where(query.since, (parameter) => `created_at >= ${parameter}`)
  where(query.until, (parameter) => `created_at < ${parameter}`)
  where(query.changedSince, (parameter) => `updated_at >= ${parameter}`)
  if (query.states) conditions.push(`state IN (${query.states.map(given).join(', ')})`)
  for (const [key, value] of Object.entries(query.labels ?? {})) {
    conditions.push(`${dialect.label(given(key))} = ${given(value)}`)
  }
  if (query.after) {
    const { createdAt, id } = query.after
    conditions.push(`(created_at, id) < (${given(createdAt)}, ${given(id)})`)
  }
  const filter = conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')} `
  const limit = query.limit === undefined ? '' : ` LIMIT ${given(query.limit)}`
  const sql = `SELECT document FROM ${dialect.table} ${filter}ORDER BY created_at DESC, id DESC${limit}`
  return { sql, values }
}
