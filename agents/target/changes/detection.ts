/**
 * What was changed in a published instance: worked out from what PostgreSQL counts. Pure.
 *
 * Two sources that complete each other. The next transaction id is exact, also across a crash, but tells neither where
 * something was written nor by whom: ANALYZE, autovacuum's too, takes one. The statistics tell both, but come up to ten
 * seconds late and are lost in a crash. So nothing was changed when no transaction id was used, or when ANALYZE accounts
 * for those that were and nobody's counters can still be under way; everywhere else the doubt counts as a change.
 */
import type { Changes } from '../../../messages/values.ts'
import type { ChangeRecord, Counters } from './record.ts'

/** What the instance says now. */
export interface Observation {
  readonly xid: bigint
  readonly epoch: string
  /** By name; each database that there is. Of those that wrote nothing `statistics` need not be known. */
  readonly databases: ReadonlyMap<string, Counters>
  /** What is written to the catalogs that all databases share. */
  readonly shared: number
  /** No client worked so lately that its counters could still be missing. */
  readonly quiet: boolean
}

export interface DetectedChanges {
  readonly changes: Changes
  readonly record: ChangeRecord
}

/** The record of an instance that was just recovered: its statistics began when recovery did. */
export function initialRecord({ xid, epoch }: Pick<Observation, 'xid' | 'epoch'>): ChangeRecord {
  return { xid: String(xid), seenXid: String(xid), epoch, exported: {}, changed: [] }
}

export function detectChanges(before: ChangeRecord, seen: Observation): DetectedChanges {
  const restarted = before.epoch !== seen.epoch
  const exported = restarted ? {} : before.exported
  const changed = new Set(before.changed)
  // What was written between the last look and the crash is not counted anywhere.
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

/** What is true before the snapshot of an export is taken: what is written after this is not in it for certain. */
export type Mark = Pick<Observation, 'xid' | 'epoch'> & { readonly counters: Counters }

/**
 * A database was exported as a whole, up to a mark.
 * @param quiet no client worked in another database so lately that its counters could still be missing
 */
export function withExport(record: ChangeRecord, database: string, mark: Mark, quiet: boolean): ChangeRecord {
  // A crash in between: what was written before it and after the mark is counted nowhere.
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
