/** Where in the WAL a transaction or a restore point is: searched backward, from the archive's end. */
import { HowdahError } from '../../../messages/errors.ts'
import type { BackupSummary } from '../../../messages/values.ts'
import { segmentAt, segmentStart } from '../../wal/lsn.ts'
import type { WalArchive } from '../repository.ts'
import { type ArchiveMap, countSegments, pathFor, segmentsBackward } from './archive-map.ts'
import { rangeOf } from './instance-archive.ts'
import { describeTarget, formatTime, type RecoveryTarget } from './recovery-target.ts'
import type { RestorePoint } from './segment-summary.ts'
import { isOnPath, type TimelinePath } from './timelines.ts'
import { UNREADABLE_CODES, type WalInspector } from './wal-inspector.ts'

export type Located =
  /** `others`: earlier restore points of the same name, after the backup that recovery starts from. */
  | { readonly kind: 'at'; readonly lsn: bigint; readonly time?: number; readonly others?: readonly bigint[] }
  | { readonly kind: 'absent'; readonly there: string }
  /** Not found: the search stopped at `before`, or the WAL before it cannot be read. */
  | { readonly kind: 'unknown'; readonly before: bigint | undefined }
  /** The target is not a single position in the WAL. */
  | { readonly kind: 'elsewhere' }

/** Limits of a search, and how its progress is reported. */
export interface Search {
  /** Whether the time for the search is over: what was not found by then is unknown. Default: no limit. */
  readonly isOver?: (() => boolean) | undefined
  readonly signal?: AbortSignal | undefined
  readonly progress?: ((detail: string) => void) | undefined
}

const POINTS_NAMED = 10
/** Restore points by which pgBackRest checks that archiving works (src/db/helper.c, dbWalSwitch). */
const TOOLS_POINTS = new Set(['pgBackRest Archive Check'])

/**
 * The position of the target in the WAL.
 * @param backups that recovery may start from, newest first
 * @throws HowdahError `target_unreachable` when there is no such timeline; as `WalArchive.read`; the signal's reason
 */
export async function locateTarget(
  target: RecoveryTarget,
  backups: readonly [BackupSummary, ...BackupSummary[]],
  archive: WalArchive,
  map: ArchiveMap,
  inspector: WalInspector,
  search: Search,
): Promise<Located> {
  if (target.type === 'lsn') return { kind: 'at', lsn: target.lsn }
  if (target.type !== 'xid' && target.type !== 'name') return { kind: 'elsewhere' }
  const path = pathFor(map, target.timeline, backups[0].timeline ?? 1)
  const places = backups.flatMap((one) => rangeOf(one) ?? [])
  const oldest = places.at(-1)
  // Nothing before the end of the oldest backup can be recovered to.
  const least = oldest === undefined ? 0 : segmentAt(oldest.stopLsn, map.segmentBytes)
  const total = countSegments(map, path, least)

  const points: RestorePoint[] = []
  /** Newest first. */
  const positions: bigint[] = []
  let floor = least
  let searched = 0
  let from: bigint | undefined
  /** The target may be before this. */
  let doubt: bigint | undefined
  // Without the end of a backup it is unknown where to stop. Missing segments do not matter: recovery cannot reach
  // them.
  let isComplete = oldest !== undefined
  for (const segment of segmentsBackward(map, path, least)) {
    if (segment.segment < floor) break
    search.signal?.throwIfAborted()
    if (search.isOver?.() === true) {
      isComplete = false
      doubt = from
      break
    }
    if (searched > 0) {
      search.progress?.(`looking for ${describeTarget(target)}: ${searched} of ${total} WAL segments`)
    }
    searched += 1
    from = segmentStart(segment.segment, map.segmentBytes)
    const summary = await unlessDamaged(inspector.summary(archive, segment))
    if (summary === undefined) {
      isComplete = false
      doubt ??= from
    }
    if (target.type === 'xid') {
      const found = summary && (await inspector.findXid(archive, segment, target.xid))
      if (found !== undefined) return { kind: 'at', lsn: found.lsn, time: found.time }
      continue
    }
    for (const point of summary?.points.toReversed() ?? []) {
      if (point.name === target.name) positions.push(point.lsn)
      else points.push(point)
    }
    const [newest] = positions
    // Of several restore points of that name recovery stops at the first one after the backup that it starts from.
    if (newest !== undefined) floor = Math.max(least, endOfBackupBefore(newest, path, map, places))
  }
  const [newest, ...others] = positions
  if (newest !== undefined) return { kind: 'at', lsn: newest, others: others.reverse() }
  if (!isComplete) return { kind: 'unknown', before: doubt }
  return { kind: 'absent', there: target.type === 'xid' ? '' : namesOf(points) }
}

/** Undefined for damage: it matters only where the target is, and then PostgreSQL reports it. */
async function unlessDamaged<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (error instanceof HowdahError && UNREADABLE_CODES.has(error.code)) return undefined
    throw error
  }
}

/** Number of the segment in which the newest backup ended from which recovery to `lsn` can start. */
function endOfBackupBefore(
  lsn: bigint,
  path: TimelinePath,
  { segmentBytes }: ArchiveMap,
  places: readonly NonNullable<ReturnType<typeof rangeOf>>[],
): number {
  const before = places.find((one) => one.stopLsn <= lsn && isOnPath(path, one.timeline, one.stopLsn))
  return before === undefined ? 0 : segmentAt(before.stopLsn, segmentBytes)
}

/** @param points newest first */
function namesOf(points: readonly RestorePoint[]): string {
  const own = points.filter(({ name }) => !TOOLS_POINTS.has(name))
  if (own.length === 0) return 'the archive has no restore points'
  const shown = own
    .slice(0, POINTS_NAMED)
    .reverse()
    .map(({ name, time }) => `"${name}" (${formatTime(time)})`)
  const more = own.length - shown.length
  return `restore points in the archive: ${more > 0 ? `${more} older ones, ` : ''}${shown.join(', ')}`
}
