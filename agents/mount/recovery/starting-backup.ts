/**
 * Which backup recovery starts from: the newest one that is on the path to the target and was consistent before it. The
 * times that backups record are compared with those in the WAL, because times of files and clocks can be wrong.
 */
import { HowdahError } from '../../../messages/errors.ts'
import type { BackupSummary } from '../../../messages/values.ts'
import { lsnOf, segmentAt } from '../../wal/lsn.ts'
import { pathFor, segmentsBackward } from './archive-map.ts'
import { type InstanceArchive, rangeOf } from './instance-archive.ts'
import { type Located, locateTarget } from './locate-target.ts'
import { endOf, type Planning } from './planning.ts'
import { describeTarget } from './recovery-target.ts'
import { isOnPath } from './timelines.ts'
import { END_SEGMENTS, UNREADABLE_CODES } from './wal-inspector.ts'

export interface StartingBackup {
  readonly backup: BackupSummary
  readonly archive: InstanceArchive
  readonly located: Located
}

/** @throws HowdahError `target_unreachable`, and what reading the archive throws */
export async function chooseStartingBackup(planning: Planning): Promise<StartingBackup> {
  const { target, candidates, isNamed, name, knowledge } = planning
  const newest = await planning.archiveOf(candidates[0])
  const located: Located =
    newest.map === undefined
      ? { kind: 'elsewhere' }
      : await locateTarget(
          target,
          candidates,
          newest.archive,
          newest.map,
          knowledge.inspector,
          planning.search,
        )
  const asked = describeTarget(target)
  if (located.kind === 'absent') {
    const after = isNamed ? `after the end of backup ${candidates[0].label}` : 'that could be recovered to'
    const intro = `the archive has no ${asked} ${after}`
    throw await planning.unreachable(located.there === '' ? intro : `${intro}; ${located.there}`)
  }
  let otherBranch: BackupSummary | undefined
  let doubtful: StartingBackup | undefined
  for (const backup of candidates) {
    // LSNs of different clusters cannot be compared.
    if (target.type !== 'time' && backup.systemIdentifier !== candidates[0].systemIdentifier) break
    if (!mayBeBefore(backup, located, planning)) continue
    const archive = await planning.archiveOf(backup)
    const { map } = archive
    const own = backup.timeline
    if (map !== undefined && own !== undefined) {
      const path = pathFor(map, target.timeline, own)
      if (!isOnPath(path, own, rangeOf(backup)?.stopLsn)) {
        otherBranch ??= backup
        continue
      }
    }
    const ended = await endedInTime(backup, archive, planning)
    if (ended === true) return { backup, archive, located }
    if (ended === undefined) doubtful ??= { backup, archive, located }
  }
  if (doubtful !== undefined) {
    planning.warnings.push({
      code: 'target_unreachable',
      message: `whether backup ${doubtful.backup.label} was consistent before ${asked} is not known: PostgreSQL finds out; if it was not, name an older backup`,
    })
    return doubtful
  }
  const timelineText = (backup: BackupSummary): string =>
    newest.map === undefined || backup.timeline === undefined
      ? String(target.timeline)
      : String(pathFor(newest.map, target.timeline, backup.timeline).at(-1)?.timeline)
  if (otherBranch !== undefined) {
    const finding = isNamed
      ? `backup ${otherBranch.label} is not on the way to timeline ${timelineText(otherBranch)}: it ended on timeline ${otherBranch.timeline} at ${otherBranch.stopLsn}`
      : `no backup of ${name} that ended before ${asked} is on the way to timeline ${timelineText(otherBranch)}`
    throw await planning.unreachable(
      `${finding}; its own timeline can be recovered to with timeline ${otherBranch.timeline}`,
    )
  }
  const [first] = isNamed ? candidates : candidates.toReversed()
  const ended = first === undefined ? 'no known time' : endOf(first)
  throw await planning.unreachable(
    isNamed
      ? `backup ${first?.label} ended at ${ended}, after ${asked}: take an older backup, or a later target`
      : `no backup of ${name} ended before ${asked}, the first one ended at ${ended}`,
  )
}

/**
 * Whether the backup may have ended before the target, by what it records itself. The times that it records are never
 * too late.
 */
function mayBeBefore(
  { startedAt, stoppedAt, stopLsn }: BackupSummary,
  located: Located,
  { target, isNamed }: Planning,
): boolean {
  if (target.type === 'time') {
    const known = stoppedAt ?? startedAt
    return known === undefined || Date.parse(known) * 1000 <= target.time
  }
  const stop = lsnOf(stopLsn)
  if (stop === undefined) return true
  if (located.kind === 'at') return stop <= located.lsn
  if (located.kind === 'unknown' && located.before !== undefined && !isNamed) return stop <= located.before
  return true
}

/** Whether the backup is consistent before the time: no transaction before its end ended later. Undefined: not known. */
async function endedInTime(
  backup: BackupSummary,
  { archive, map }: InstanceArchive,
  { target, knowledge }: Planning,
): Promise<boolean | undefined> {
  if (target.type !== 'time') return true
  const place = rangeOf(backup)
  const unknown = backup.stoppedAt === undefined ? undefined : true
  if (map === undefined || place === undefined) return unknown
  const { stopLsn, timeline } = place
  const last = segmentAt(stopLsn - 1n, map.segmentBytes)
  const path = pathFor(map, target.timeline, timeline)
  const segments = [...segmentsBackward(map, path, last - END_SEGMENTS + 1, last)]
    .reverse()
    .map((one) => (one.segment === last ? { ...one, before: stopLsn } : one))
  try {
    const { lastTime } = await knowledge.inspector.end(archive, segments)
    if (lastTime === undefined) return unknown
    return target.inclusive ? lastTime <= target.time : lastTime < target.time
  } catch (error) {
    if (error instanceof HowdahError && UNREADABLE_CODES.has(error.code)) return undefined
    throw error
  }
}
