/** Where in the WAL a transaction or a restore point is, as far as a bounded search tells. */
import type { BackupSummary } from '../../../messages/values.ts'
import { segmentAt, segmentStart } from '../../wal/lsn.ts'
import type { WalArchive } from '../repository.ts'
import { type ArchiveMap, lastSegments, pathFor } from './archive-map.ts'
import { placed } from './instance-archive.ts'
import { formatTime, type RecoveryTarget } from './recovery-target.ts'
import type { WalInspector } from './wal-inspector.ts'

export type Located =
  /** `others`: where else a restore point of that name is, before it. */
  | { readonly kind: 'at'; readonly lsn: bigint; readonly others?: readonly bigint[] }
  | { readonly kind: 'absent'; readonly there: string }
  /** Not found in what was searched, which begins at `before`. */
  | { readonly kind: 'unknown'; readonly before: bigint | undefined }
  /** No single position of the WAL. */
  | { readonly kind: 'elsewhere' }

/** WAL that is searched for a transaction or a restore point. */
const SEARCH_SEGMENTS = 64
const SEARCH_BYTES = 1024 ** 3
const POINTS_NAMED = 10
/** With these pgBackRest tries whether archiving works (src/db/helper.c, dbWalSwitch). */
const TOOLS_POINTS = new Set(['pgBackRest Archive Check'])

/**
 * The position of a target that is one of the WAL's.
 * @param backups that recovery may begin with, newest first
 * @throws HowdahError `target_unreachable` when there is no such timeline; as `WalArchive.read`
 */
export async function locateTarget(
  target: RecoveryTarget,
  backups: readonly [BackupSummary, ...BackupSummary[]],
  archive: WalArchive,
  map: ArchiveMap,
  inspector: WalInspector,
): Promise<Located> {
  if (target.type === 'lsn') return { kind: 'at', lsn: target.lsn }
  if (target.type !== 'xid' && target.type !== 'name') return { kind: 'elsewhere' }
  const [newest] = backups
  const path = pathFor(map, target.timeline, newest.timeline ?? 1)
  const limit = Math.max(1, Math.min(SEARCH_SEGMENTS, Math.floor(SEARCH_BYTES / map.segmentBytes)))
  const oldest = backups.flatMap((one) => placed(one) ?? []).at(-1)
  // Nothing before the end of the oldest backup can be recovered to.
  const least = oldest === undefined ? 0 : segmentAt(oldest.stopLsn, map.segmentBytes)
  const { segments, isAll } = lastSegments(map, path, least, limit)
  // What is in a segment that is missing cannot be recovered to either.
  let isComplete = isAll && oldest !== undefined
  const searchedFrom = segments[0] && segmentStart(segments[0].segment, map.segmentBytes)
  if (target.type === 'xid') {
    const found = await inspector.findXid(archive, segments, target.xid)
    if (found !== undefined) return { kind: 'at', lsn: found.lsn }
    return isComplete ? { kind: 'absent', there: '' } : { kind: 'unknown', before: searchedFrom }
  }
  const names: string[] = []
  const positions: bigint[] = []
  for (const segment of segments) {
    const found = await inspector.summary(archive, segment)
    isComplete &&= found !== undefined
    for (const point of found?.points ?? []) {
      if (point.name === target.name) positions.push(point.lsn)
      else if (!TOOLS_POINTS.has(point.name)) names.push(`"${point.name}" (${formatTime(point.time)})`)
    }
  }
  const last = positions.at(-1)
  if (last !== undefined) return { kind: 'at', lsn: last, others: positions.slice(0, -1) }
  const shown = names.slice(-POINTS_NAMED)
  const more = names.length - shown.length
  const there =
    shown.length === 0
      ? 'the archive has no restore points'
      : `restore points in the archive: ${more > 0 ? `${more} older ones, ` : ''}${shown.join(', ')}`
  return isComplete ? { kind: 'absent', there } : { kind: 'unknown', before: searchedFrom }
}
