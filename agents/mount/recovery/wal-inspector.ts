/**
 * Answers what WAL segments hold: ends of transactions, restore points, where the WAL ends. Keeps a summary of each file
 * that it read for as long as the file stays the same, so that no segment is read twice for that.
 */
import type { ErrorCode } from '../../../messages/errors.ts'
import { segmentName, timelineOf } from '../../wal/lsn.ts'
import { recoveryStop } from '../../wal/wal-records.ts'
import type { WalArchive } from '../repository.ts'
import { later, type SegmentSummary, scanArchived, summarizeSegment } from './segment-summary.ts'
import type { PathSegment } from './timelines.ts'

/** The end of a transaction. */
export interface Position {
  readonly lsn: bigint
  /** Microseconds since 1970-01-01 UTC. */
  readonly time: number
}

/** The end of the WAL of a path, as far as its last segments show. */
export interface WalEnd {
  /** Start of the last record: recovery can stop there, and not later. */
  readonly lastStart: bigint | undefined
  readonly lastEnd: bigint | undefined
  readonly lastTime: number | undefined
  readonly lastCommit: number | undefined
  readonly lastCommitLsn: bigint | undefined
  /** System identifier of the cluster that wrote the last segment. */
  readonly cluster: string | undefined
  /** Number of segments that were searched. */
  readonly searched: number
}

export interface WalInspector {
  /** Undefined: the file does not exist, or is not WAL of a known version. @throws HowdahError as `WalArchive.read` */
  summary(archive: WalArchive, segment: PathSegment): Promise<SegmentSummary | undefined>
  /** Searches from the last of `segments` backward for a commit, in a bounded number of them. */
  end(archive: WalArchive, segments: readonly PathSegment[]): Promise<WalEnd>
  /** Where the last commit or abort of a transaction is in a segment. */
  findXid(archive: WalArchive, segment: PathSegment, xid: number): Promise<Position | undefined>
  /** The last commit of a segment that is not later than `time`. */
  commitUntil(archive: WalArchive, segment: PathSegment, time: number): Promise<Position | undefined>
}

/** Error codes of WAL that exists and cannot be read. */
export const UNREADABLE_CODES: ReadonlySet<ErrorCode> = new Set(['backup_damaged', 'backup_unsupported'])

/** Segments that are searched for the last commit. */
export const END_SEGMENTS = 32
/** Summaries that are kept, of a few hundred bytes each: those of a terabyte of WAL. */
const REMEMBERED = 65_536

export function createWalInspector(): WalInspector {
  // Least recently used first.
  const summaries = new Map<string, SegmentSummary | undefined>()

  async function summary(archive: WalArchive, segment: PathSegment): Promise<SegmentSummary | undefined> {
    const key = await keyOf(archive, segment)
    if (key === undefined) return undefined
    const found = summaries.has(key) ? summaries.get(key) : await summarizeSegment(archive, segment)
    summaries.delete(key)
    summaries.set(key, found)
    for (const oldest of summaries.keys()) {
      if (summaries.size <= REMEMBERED) break
      summaries.delete(oldest)
    }
    return found
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
      await scanArchived(archive, segment, (record) => {
        const stop = recoveryStop(record)
        if (stop !== undefined && stop.kind !== 'point' && stop.xid === xid) found = stop
      })
      return found && { lsn: found.lsn, time: found.time }
    },
    async commitUntil(archive, segment, time) {
      let found: Position | undefined
      await scanArchived(archive, segment, (record) => {
        const stop = recoveryStop(record)
        if (stop?.kind === 'commit' && stop.time <= time) found = stop
      })
      return found && { lsn: found.lsn, time: found.time }
    },
  }
}

/** The next segment belongs to the key: a record at the end of a segment is complete only with it. */
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
