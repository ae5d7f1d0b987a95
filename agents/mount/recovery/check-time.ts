/** Whether recovery to a time stops at it, and what it reaches. */
import type { Reaches } from '../../../messages/steps.ts'
import { segmentStart } from '../../wal/lsn.ts'
import { asAsked, atTheEnd, type CheckedReach, type ReachContext, reachesOf } from './reach-context.ts'
import { formatTime, type RecoveryTarget } from './recovery-target.ts'

/** Segments in which the last commit before a time is looked for. */
const LOOK_AHEAD_SEGMENTS = 8

/**
 * A time after the last commit becomes the end of the archive, with a warning.
 * @throws HowdahError `wal_missing` for a time that may be after a missing segment; what reading the archive throws
 */
export async function checkTime(
  context: ReachContext,
  { time, inclusive }: Extract<RecoveryTarget, { type: 'time' }>,
): Promise<CheckedReach> {
  const { reach, map, backup, bytesTo } = context
  const { warnings, recoverTo } = context.planning
  const end = await context.endOfWal()
  if (end === undefined) return asAsked(undefined)
  const { lastTime, lastCommit } = end
  // Recovery stops before the first transaction that ended later, or at that time where it is not included.
  const isReached = lastTime !== undefined && (inclusive ? lastTime > time : lastTime >= time)
  if (isReached) {
    const segment = await segmentOfTime(context, time)
    if (segment === undefined) return asAsked(undefined)
    const walBytes = bytesTo(segmentStart(segment + 1, map.segmentBytes))
    return asAsked(walBytes, await lastBefore(context, time, segment))
  }
  await context.refuseUnreadable()
  if (reach.missing !== undefined) throw await context.gap()
  if (lastTime === undefined && end.searched < reach.length) {
    warnings.push({
      code: 'target_unreachable',
      message: `the last ${end.searched} WAL segments of the archive hold no commit: whether ${formatTime(time)} is reached is not known`,
    })
    return asAsked(undefined)
  }
  const known =
    lastCommit === undefined
      ? `the archive has no commit after backup ${backup.label}`
      : `the last commit in the archive is of ${formatTime(lastCommit)}`
  warnings.push({
    code: 'target_unreachable',
    message: `${known}, and nothing happened after ${formatTime(time)}: the end of the archive is what is recovered to`,
  })
  const { timeline } = recoverTo
  return {
    recoverTo: { type: 'latest', ...(timeline !== undefined && { timeline }) },
    walBytes: context.bytesToEnd(),
    reaches: atTheEnd(end),
  }
}

/**
 * The first segment that was stored after the time: those before it hold no later transaction. Undefined: not known.
 * A binary search by the times of the files.
 */
async function segmentOfTime({ reach, archive }: ReachContext, time: number): Promise<number | undefined> {
  let high = reach.last
  let low = high - reach.length + 1
  if (high < low) return undefined
  while (low < high) {
    const middle = (low + high) >> 1
    const [segment] = reach.segments(middle, middle)
    const stored = segment && (await archive.archive.stat(segment.name))
    if (stored === undefined) return undefined
    if (stored.storedAt * 1000 > time) high = middle
    else low = middle + 1
  }
  return low
}

/**
 * The last commit that is not later than `time`, looked for from `segment` on: it is there where files have the times
 * of their archiving, and not much later where they are copies.
 */
async function lastBefore(
  { planning, archive: { archive }, reach }: ReachContext,
  time: number,
  segment: number,
): Promise<Reaches | undefined> {
  const { inspector } = planning.knowledge
  let before: Reaches | undefined
  for (const one of reach.segments(segment, segment + LOOK_AHEAD_SEGMENTS)) {
    const summary = await inspector.summary(archive, one).catch(() => undefined)
    if (summary === undefined) return undefined
    if (summary.lastTime !== undefined && summary.lastTime > time) {
      const commit = await inspector.commitUntil(archive, one, time)
      return commit === undefined ? before : reachesOf(undefined, commit.time, commit.lsn)
    }
    if (summary.lastCommit !== undefined) {
      before = reachesOf(undefined, summary.lastCommit, summary.lastCommitLsn)
    }
  }
  return undefined
}
