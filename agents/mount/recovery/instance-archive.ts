/**
 * The archive of one cluster for planning and listing: its map, the ends of its paths, its windows. Opened for one
 * request, so that all answers are consistent; what is expensive to find out is kept in `ArchiveKnowledge`.
 */
import type { BackupSummary, RecoverableWindow } from '../../../messages/values.ts'
import { formatLsn, lsnOf, segmentAt } from '../../wal/lsn.ts'
import type { Instance, WalArchive } from '../repository.ts'
import { type ArchiveMap, type MappedArchive, mapArchive, type Reach, reachFrom } from './archive-map.ts'
import { isoTime } from './recovery-target.ts'
import { isOnPath, type TimelinePath } from './timelines.ts'
import { createWalInspector, END_SEGMENTS, type WalEnd, type WalInspector } from './wal-inspector.ts'

/** A backup whose start and end in the WAL are known, and so which WAL it needs. */
export interface BackupRange {
  readonly summary: BackupSummary
  readonly timeline: number
  readonly startLsn: bigint
  readonly stopLsn: bigint
}

export interface InstanceArchive extends MappedArchive {
  readonly archive: WalArchive
  end(reach: Reach): Promise<WalEnd>
  /**
   * What can be recovered to, oldest first, timeline by timeline.
   * @param backups usable ones of the cluster, oldest first
   */
  windows(backups: readonly BackupSummary[]): Promise<RecoverableWindow[]>
}

/** What is kept about archives from request to request. */
export interface ArchiveKnowledge {
  readonly inspector: WalInspector
  /** By the archive's id. */
  readonly segmentBytes: Map<string, number>
}

export const createArchiveKnowledge = (): ArchiveKnowledge => ({
  inspector: createWalInspector(),
  segmentBytes: new Map(),
})

export function rangeOf(summary: BackupSummary): BackupRange | undefined {
  const { timeline } = summary
  const startLsn = lsnOf(summary.startLsn)
  const stopLsn = lsnOf(summary.stopLsn)
  if (timeline === undefined || startLsn === undefined || stopLsn === undefined) return undefined
  return { summary, timeline, startLsn, stopLsn }
}

export async function openInstanceArchive(
  instance: Instance,
  backup: BackupSummary,
  { inspector, segmentBytes }: ArchiveKnowledge,
): Promise<InstanceArchive> {
  const archive = await instance.wal(backup)
  const { map, remarks } = await mapArchive(archive, backup.startWal, segmentBytes.get(archive.id))
  if (map !== undefined) segmentBytes.set(archive.id, map.segmentBytes)

  const end = (reach: Reach) =>
    inspector.end(archive, reach.segments(reach.last - END_SEGMENTS + 1, reach.last))

  async function windowFrom(
    known: ArchiveMap,
    path: TimelinePath,
    backups: readonly BackupRange[],
  ): Promise<{ readonly window: RecoverableWindow; readonly used: number } | undefined> {
    const [first] = backups
    if (first === undefined) return undefined
    const reach = reachFrom(known, path, segmentAt(first.startLsn, known.segmentBytes))
    const isWithin = ({ stopLsn }: BackupRange) => segmentAt(stopLsn - 1n, known.segmentBytes) <= reach.last
    const from = first.summary.stoppedAt
    if (!isWithin(first) || from === undefined) return undefined
    const within = backups.filter(isWithin)
    const { lastCommit, lastEnd } = await end(reach).catch(() => NOTHING_KNOWN)
    // A commit before the backup's end says nothing about what came after it.
    const to =
      lastCommit !== undefined && lastCommit >= Date.parse(from) * 1000 ? isoTime(lastCommit) : undefined
    const toLsn = lastEnd !== undefined && lastEnd > first.stopLsn ? lastEnd : first.stopLsn
    const window = {
      timeline: path.at(-1)?.timeline ?? first.timeline,
      from,
      ...(to !== undefined && { to }),
      fromLsn: formatLsn(first.stopLsn),
      toLsn: formatLsn(toLsn),
      backups: within.map(({ summary }) => summary.label),
      ...(reach.missing !== undefined && { missingWal: reach.missing }),
    }
    return { window, used: within.length }
  }

  return {
    archive,
    map,
    remarks,
    end,
    async windows(backups) {
      if (map === undefined) return []
      const places = backups.flatMap((one) => rangeOf(one) ?? [])
      const found: RecoverableWindow[] = []
      for (const timeline of [...map.paths.keys()].sort((a, b) => a - b)) {
        const path = map.paths.get(timeline)
        if (path === undefined || !map.segments.has(timeline)) continue
        let left = places.filter((one) => isOnPath(path, one.timeline, one.stopLsn))
        while (left.length > 0) {
          const next = await windowFrom(map, path, left)
          if (next !== undefined) found.push(next.window)
          left = left.slice(next?.used ?? 1)
        }
      }
      return found
    },
  }
}

const NOTHING_KNOWN: WalEnd = {
  lastStart: undefined,
  lastEnd: undefined,
  lastTime: undefined,
  lastCommit: undefined,
  lastCommitLsn: undefined,
  cluster: undefined,
  searched: 0,
}
