/**
 * The databases of an export as messages list them: some of them, those first that a person looks for, and all in sum. So
 * a message has a bounded size, however many databases there are; the manifest at the destination lists all. Pure.
 */
import type { DatabaseExport, ExportTotals } from '../../../messages/exports.ts'

/** Size of a list as JSON, characters: a session may have many exports. */
const MAX_LISTED = 16_384

const RANK: Readonly<Record<DatabaseExport['status'], number>> = {
  running: 0,
  failed: 1,
  cancelled: 1,
  done: 2,
  pending: 3,
}

export interface ListedDatabases {
  /** In their order; missing in `totals.databases` of them: the least interesting ones. */
  readonly databases: DatabaseExport[]
  readonly totals: ExportTotals
}

export function listedDatabases(states: readonly DatabaseExport[]): ListedDatabases {
  const kept = new Set<DatabaseExport>()
  let room = MAX_LISTED
  for (const state of [...states].sort((a, b) => RANK[a.status] - RANK[b.status])) {
    room -= JSON.stringify(state).length + 1
    if (room < 0) break
    kept.add(state)
  }
  return { databases: states.filter((state) => kept.has(state)), totals: totalsOf(states) }
}

function totalsOf(states: readonly DatabaseExport[]): ExportTotals {
  const sum = (of: (state: DatabaseExport) => number | undefined): number =>
    states.reduce((total, state) => total + (of(state) ?? 0), 0)
  return {
    databases: states.length,
    done: sum(({ status }) => (status === 'done' ? 1 : 0)),
    failed: sum(({ status }) => (status === 'failed' ? 1 : 0)),
    tables: sum(({ tables }) => tables),
    rows: sum(({ rows }) => rows),
    bytes: sum(({ bytes }) => bytes),
  }
}
