/** What one WAL segment of an archive holds that matters to recovery, in a few numbers. Reads the segment; keeps nothing. */
import { segmentName, segmentStart, timelineOf } from '../../wal/lsn.ts'
import { type Scan, scanSegment, type WalRecord } from '../../wal/scan-segment.ts'
import { readSegmentHeader } from '../../wal/wal-pages.ts'
import { endedBackup, isBackupEnd, isStop, recoveryStop } from '../../wal/wal-records.ts'
import type { WalArchive } from '../repository.ts'
import type { PathSegment } from './timelines.ts'

/** Times: microseconds since 1970-01-01 UTC. */
export interface SegmentSummary {
  /** Where the last complete record starts and ends; undefined: none does in this segment. */
  readonly lastStart: bigint | undefined
  readonly lastEnd: bigint | undefined
  /** The latest time of a commit or abort. */
  readonly lastTime: number | undefined
  readonly lastCommit: number | undefined
  /** Where the last commit is. */
  readonly lastCommitLsn: bigint | undefined
  readonly points: readonly RestorePoint[]
  /** The least and the greatest number of the transactions that end here. */
  readonly xids: readonly [least: number, greatest: number] | undefined
  /** Ends of backups that were taken of a primary. */
  readonly backupEnds: readonly BackupEnd[]
  /** System identifier of the cluster that wrote it. */
  readonly cluster: string
}

export interface BackupEnd {
  /** Where the backup began. */
  readonly start: bigint
  /** After the record that ends it; the next one begins there. */
  readonly end: bigint
}

export interface RestorePoint {
  readonly name: string
  readonly lsn: bigint
  readonly time: number
}

/**
 * Visits the ends of transactions and backups and the restore points of a segment, with the next segment's bytes where
 * the last record reaches into it. Undefined: the file does not exist, or is not WAL of a known version.
 * @throws HowdahError as `WalArchive.read`
 */
export async function scanArchived(
  archive: WalArchive,
  { name, segment, before }: PathSegment,
  visit: (record: WalRecord) => void,
): Promise<(Scan & { readonly cluster: string }) | undefined> {
  const bytes = await archive.read(name)
  const header = bytes === undefined ? undefined : readSegmentHeader(bytes)
  if (bytes === undefined || header === undefined) return undefined
  const base = segmentStart(segment, header.segmentBytes)
  if (header.base !== base) return undefined
  const wanted = (manager: number, info: number) => isStop(manager, info) || isBackupEnd(manager, info)
  const options = { base, before, wanted, visit }
  const cluster = String(header.systemIdentifier)
  const found = scanSegment(bytes, options)
  if (found.unfinished === undefined) return { ...found, cluster }
  const next = await archive.read(segmentName(timelineOf(name), segment + 1, header.segmentBytes))
  if (next === undefined) return { ...found, cluster }
  const rest = scanSegment(bytes, { ...options, next, from: found.unfinished })
  return { ...(rest.lastStart === undefined ? found : rest), cluster }
}

/** Undefined and errors as for `scanArchived`. */
export async function summarizeSegment(
  archive: WalArchive,
  segment: PathSegment,
): Promise<SegmentSummary | undefined> {
  const points: RestorePoint[] = []
  const backupEnds: BackupEnd[] = []
  let lastTime: number | undefined
  let lastCommit: number | undefined
  let lastCommitLsn: bigint | undefined
  let xids: [number, number] | undefined
  const found = await scanArchived(archive, segment, (record) => {
    const start = endedBackup(record)
    if (start !== undefined) backupEnds.push({ start, end: nextRecord(record.end) })
    const stop = recoveryStop(record)
    if (stop === undefined) return
    if (stop.kind === 'point') {
      points.push({ name: stop.name, lsn: stop.lsn, time: stop.time })
      return
    }
    const { xid } = stop
    xids = xids === undefined ? [xid, xid] : [Math.min(xids[0], xid), Math.max(xids[1], xid)]
    lastTime = later(lastTime, stop.time)
    if (stop.kind !== 'commit') return
    lastCommit = later(lastCommit, stop.time)
    lastCommitLsn = stop.lsn
  })
  if (found === undefined) return undefined
  const { lastStart, lastEnd, cluster } = found
  return { lastStart, lastEnd, lastTime, lastCommit, lastCommitLsn, points, xids, backupEnds, cluster }
}

/** The later of two times that may not be known. */
export function later(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return Math.max(a, b)
}

/** Records begin at multiples of 8 (MAXALIGN). */
const nextRecord = (lsn: bigint) => (lsn + 7n) & ~7n
