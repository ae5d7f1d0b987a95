/**
 * Detects what was changed in a published instance, from PostgreSQL's transaction ids and statistics. Pure.
 *
 * Two sources that complement each other. The next transaction id is exact, also across a crash, but shows neither in which
 * database something was written nor by whom: ANALYZE, including autovacuum's, uses one too. The statistics show both, but
 * up to ten seconds late, and are lost in a crash. So nothing was changed if no transaction id was used, or if ANALYZE
 * accounts for those that were and no client's counters can be outstanding. In all other cases a change is assumed.
 */
import type { Changes } from '../../../messages/values.ts'
import type { ChangeRecord, Counters } from './record.ts'

/** Names that a message lists. */
const MAX_LISTED = 100

/** The changes as messages carry them: of many databases only some. */
export function listedChanges({ changed, databases }: Changes): Changes {
  const more = databases.length - MAX_LISTED
  return { changed, databases: databases.slice(0, MAX_LISTED), ...(more > 0 && { more }) }
}

/** One query of the instance. */
export interface Observation {
  readonly xid: bigint
  readonly epoch: string
  /** By name, of every database. Where nothing was written `statistics` may be unknown, and 0. */
  readonly databases: ReadonlyMap<string, Counters>
  /** Tuples written to the shared catalogs. */
  readonly shared: number
  /** No client was active so recently that its counters could be outstanding. */
  readonly quiet: boolean
}

export interface DetectedChanges {
  readonly changes: Changes
  readonly record: ChangeRecord
}

/** The record of an instance that has just recovered: its statistics began with the recovery. */
export function initialRecord({ xid, epoch }: Pick<Observation, 'xid' | 'epoch'>): ChangeRecord {
  return { xid: String(xid), seenXid: String(xid), epoch, exported: {}, changed: [] }
}

export function detectChanges(before: ChangeRecord, seen: Observation): DetectedChanges {
  const restarted = before.epoch !== seen.epoch
  const exported = restarted ? {} : before.exported
  const changed = new Set(before.changed)
  // What was written between the last query and the crash is in no counter.
  if (restarted && seen.xid > BigInt(before.seenXid))
    for (const name of seen.databases.keys()) changed.add(name)
  for (const [name, counters] of seen.databases)
    if (hasWritten(counters, exported[name] ?? NOTHING)) changed.add(name)
  const known = [...changed].filter((name) => seen.databases.has(name)).sort()
  const analyzed = [...seen.databases].some(
    ([name, { statistics }]) => statistics > (exported[name] ?? NOTHING).statistics,
  )
  const explained = known.length === 0 && seen.shared === 0 && analyzed && seen.quiet
  const xid = explained ? seen.xid : BigInt(before.xid)
  const moved = seen.xid > xid
  return {
    changes: { changed: known.length > 0 || moved, databases: known },
    record: {
      xid: String(xid),
      seenXid: String(seen.xid),
      epoch: seen.epoch,
      exported,
      changed: known,
    },
  }
}

/** The state before the snapshot of an export is taken: what is written later may not be in the export. */
export type Mark = Pick<Observation, 'xid' | 'epoch'> & { readonly counters: Counters }

/**
 * A database was exported as a whole, up to a mark.
 * @param quiet no client was active in another database so recently that its counters could be outstanding
 */
export function withExport(record: ChangeRecord, database: string, mark: Mark, quiet: boolean): ChangeRecord {
  // After a crash in between, what was written before it and after the mark is in no counter.
  if (mark.epoch !== record.epoch) return record
  const changed = record.changed.filter((name) => name !== database)
  const xid = changed.length === 0 && quiet && mark.xid > BigInt(record.xid) ? String(mark.xid) : record.xid
  return {
    ...record,
    xid,
    changed,
    exported: { ...record.exported, [database]: mark.counters },
  }
}

const NOTHING: Counters = { written: 0, statistics: 0 }

function hasWritten(now: Counters, base: Counters): boolean {
  return now.written - base.written > now.statistics - base.statistics
}
