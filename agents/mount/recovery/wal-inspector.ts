/**
 * Knows what is in WAL segments: ends of transactions, restore points, where it ends. Remembers of each file that it
 * read the little that matters, for as long as the file stays the same.
 */

import type { ErrorCode } from '../../../messages/errors.ts'
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

/** Of the end of a transaction. */
export interface Position {
  readonly lsn: bigint
  readonly time: number
}

/** The end of the WAL of a path, as far as its last segments tell. */
export interface WalEnd {
  /** Start of the last record: recovery can stop there, and not later. */
  readonly lastStart: bigint | undefined
  readonly lastEnd: bigint | undefined
  readonly lastTime: number | undefined
  readonly lastCommit: number | undefined
  readonly lastCommitLsn: bigint | undefined
  /** System identifier of the cluster that wrote the last segment. */
  readonly cluster: string | undefined
  /** Segments that were looked through. */
  readonly searched: number
}

export interface WalInspector {
  /** Undefined: the file is not there, or not of a kind that is known. @throws HowdahError as `WalArchive.read` */
  summary(archive: WalArchive, segment: PathSegment): Promise<SegmentSummary | undefined>
  /** Looks from the last of `segments` backward for a commit, in a bounded number of them. */
  end(archive: WalArchive, segments: readonly PathSegment[]): Promise<WalEnd>
  /** Where the last commit or abort of a transaction is in a segment. */
  findXid(archive: WalArchive, segment: PathSegment, xid: number): Promise<Position | undefined>
  /** The last commit of a segment that is not later than `time`. */
  commitUntil(archive: WalArchive, segment: PathSegment, time: number): Promise<Position | undefined>
}

/** What WAL that is there and cannot be read is refused with. */
export const UNREADABLE: ReadonlySet<ErrorCode> = new Set(['backup_damaged', 'backup_unsupported'])

/** Segments that are looked through for the last commit. */
export const END_SEGMENTS = 32
/** Summaries that are remembered; one is a few hundred bytes. As many segments are a terabyte of WAL. */
const REMEMBERED = 65_536

export function createWalInspector(): WalInspector {
  // In the order of last use.
  const summaries = new Map<string, SegmentSummary | undefined>()

  async function scan(
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

  async function summary(archive: WalArchive, segment: PathSegment): Promise<SegmentSummary | undefined> {
    const key = await keyOf(archive, segment)
    if (key === undefined) return undefined
    if (summaries.has(key)) {
      const known = summaries.get(key)
      summaries.delete(key)
      summaries.set(key, known)
      return known
    }
    const points: RestorePoint[] = []
    let lastTime: number | undefined
    let lastCommit: number | undefined
    let lastCommitLsn: bigint | undefined
    let xids: [number, number] | undefined
    const backupEnds: BackupEnd[] = []
    const found = await scan(archive, segment, (record) => {
      const start = endedBackup(record)
      if (start !== undefined) backupEnds.push({ start, end: aligned(record.end) })
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
    const made = found && {
      lastStart: found.lastStart,
      lastEnd: found.lastEnd,
      lastTime,
      lastCommit,
      lastCommitLsn,
      points,
      xids,
      backupEnds,
      cluster: found.cluster,
    }
    summaries.set(key, made)
    for (const oldest of summaries.keys()) {
      if (summaries.size <= REMEMBERED) break
      summaries.delete(oldest)
    }
    return made
  }

  return {
    summary,
    async end(archive, segments) {
      let lastStart: bigint | undefined
      let lastEnd: bigint | undefined
      let lastTime: number | undefined
      let lastCommit: number | undefined
      let lastCommitLsn: bigint | undefined
      let cluster: string | undefined
      let searched = 0
      for (const segment of segments.slice(-END_SEGMENTS).reverse()) {
        const found = await summary(archive, segment)
        if (found === undefined) break
        searched += 1
        lastStart ??= found.lastStart
        lastEnd ??= found.lastEnd
        lastTime = later(lastTime, found.lastTime)
        lastCommit = later(lastCommit, found.lastCommit)
        lastCommitLsn ??= found.lastCommitLsn
        cluster ??= found.cluster
        if (lastCommit !== undefined && lastStart !== undefined) break
      }
      return { lastStart, lastEnd, lastTime, lastCommit, lastCommitLsn, cluster, searched }
    },
    async findXid(archive, segment, xid) {
      const known = await summary(archive, segment)
      if (known?.xids === undefined || xid < known.xids[0] || xid > known.xids[1]) return undefined
      let found: Position | undefined
      await scan(archive, segment, (record) => {
        const stop = recoveryStop(record)
        if (stop !== undefined && stop.kind !== 'point' && stop.xid === xid) found = stop
      })
      return found && { lsn: found.lsn, time: found.time }
    },
    async commitUntil(archive, segment, time) {
      let found: Position | undefined
      await scan(archive, segment, (record) => {
        const stop = recoveryStop(record)
        if (stop?.kind === 'commit' && stop.time <= time) found = stop
      })
      return found && { lsn: found.lsn, time: found.time }
    },
  }
}

/** A record at the segment's end is complete only with the next segment, so that belongs to what was read. */
async function keyOf(
  archive: WalArchive,
  { name, segment, segmentBytes, before }: PathSegment,
): Promise<string | undefined> {
  const own = await archive.stat(name)
  if (own === undefined) return undefined
  const next = segmentName(timelineOf(name), segment + 1, segmentBytes)
  const after = await archive.stat(next)
  return JSON.stringify([own.identity, after?.identity, before?.toString()])
}

function later(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return Math.max(a, b)
}

/** Records begin at multiples of 8 (MAXALIGN). */
const aligned = (lsn: bigint) => (lsn + 7n) & ~7n
