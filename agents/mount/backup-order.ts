/**
 * The order of backups, oldest first. Backups of one cluster are ordered by timeline and LSN, which neither copying
 * files nor a clock changes; backups of different clusters, and those without an LSN, by the times that they record.
 * Pure.
 */
import type { BackupSummary } from '../../messages/values.ts'
import { lsnOf } from '../wal/lsn.ts'

export function oldestFirst(backups: readonly BackupSummary[]): BackupSummary[] {
  const ordered = backups.toSorted((a, b) => compare(when(a), when(b)) || compare(a.label, b.label))
  const clusters = new Set(backups.flatMap(({ systemIdentifier }) => systemIdentifier ?? []))
  // Not every kind of backup records its cluster: where there is only one, it belongs to that.
  const [only] = clusters.size === 1 ? clusters : []
  const places = new Map<string, number[]>()
  for (const [index, backup] of ordered.entries()) {
    const cluster = backup.systemIdentifier ?? only ?? ''
    if (positionOf(backup) === undefined) continue
    const known = places.get(cluster)
    if (known === undefined) places.set(cluster, [index])
    else known.push(index)
  }
  // A cluster's backups keep the set of positions in the list that they have by time, and fill it in the order of its
  // WAL.
  const result = [...ordered]
  for (const indexes of places.values()) {
    const own = indexes.flatMap((index) => ordered[index] ?? []).sort(byPosition)
    for (const [n, backup] of own.entries()) {
      const index = indexes[n]
      if (index !== undefined) result[index] = backup
    }
  }
  return result
}

const when = ({ stoppedAt, startedAt }: BackupSummary) => stoppedAt ?? startedAt ?? ''
const compare = <T extends string | number | bigint>(a: T, b: T) => (a < b ? -1 : a > b ? 1 : 0)
const positionOf = ({ stopLsn, startLsn }: BackupSummary) => lsnOf(stopLsn) ?? lsnOf(startLsn)

/** Both have an LSN. */
const byPosition = (a: BackupSummary, b: BackupSummary) =>
  compare(a.timeline ?? 0, b.timeline ?? 0) ||
  compare(positionOf(a) ?? 0n, positionOf(b) ?? 0n) ||
  compare(a.label, b.label)
