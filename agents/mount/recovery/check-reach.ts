/**
 * Whether recovery from a backup reaches its target with what the archive holds, and what it reaches: first that the
 * backup becomes consistent, then the check for the kind of target.
 */
import { formatLsn, segmentName } from '../../wal/lsn.ts'
import { checkTime } from './check-time.ts'
import { rangeOf } from './instance-archive.ts'
import type { Located } from './locate-target.ts'
import { endOf, type Planning } from './planning.ts'
import {
  asAsked,
  atTheEnd,
  type CheckedReach,
  createReachContext,
  type ReachContext,
} from './reach-context.ts'
import { describeTarget, isoTime } from './recovery-target.ts'
import type { StartingBackup } from './starting-backup.ts'
import type { WalEnd } from './wal-inspector.ts'

/** A segment may be missing while it is being archived: several are pushed in parallel. */
const ARCHIVING_MS = 10 * 60_000

/** @throws HowdahError `target_unreachable` | `wal_missing`, and what reading the archive throws */
export async function checkReach(planning: Planning, chosen: StartingBackup): Promise<CheckedReach> {
  const { target, warnings } = planning
  const { backup, archive } = chosen
  if (target.type !== 'immediate') {
    for (const message of archive.remarks) warnings.push({ code: 'wal_missing', message })
  }
  const from = rangeOf(backup)
  const { map } = archive
  if (map === undefined && backup.startWal !== undefined) {
    throw await planning.unreachable(
      `backup ${backup.label} needs WAL from segment ${backup.startWal} on to be consistent, and the archive holds none that can be read`,
      'wal_missing',
    )
  }
  if (map === undefined || from === undefined) {
    if (map !== undefined) {
      warnings.push({
        code: 'target_unreachable',
        message: `where backup ${backup.label} ends is not known, so neither is whether the archive has all WAL that it needs: PostgreSQL finds out`,
      })
    }
    return asAsked(undefined)
  }
  const context = createReachContext(planning, backup, archive, map, from)
  await requireConsistent(context)
  return checkTarget(context, chosen.located)
}

async function checkTarget(context: ReachContext, located: Located): Promise<CheckedReach> {
  const { target } = context.planning
  const { from, bytesTo } = context
  if (await startsWithoutRecovery(context)) {
    if (target.type === 'latest') warnOfNothingAfterBackup(context, undefined)
    return { ...asAsked(0, { lsn: formatLsn(from.stopLsn) }), withoutRecovery: true }
  }
  switch (target.type) {
    case 'immediate':
      return asAsked(bytesTo(from.stopLsn), { lsn: formatLsn(from.stopLsn) })
    case 'latest':
      return checkLatest(context)
    case 'time':
      return checkTime(context, target)
    case 'lsn':
    case 'xid':
    case 'name':
      return checkPosition(context, located)
    default:
      return target satisfies never
  }
}

/** @throws HowdahError `wal_missing` when a segment is missing that the backup needs to become consistent */
async function requireConsistent({ backup, from, reach, path, map, segmentOf, planning }: ReachContext) {
  const { last } = reach
  if (backup.offline === true || last >= segmentOf(from.stopLsn - 1n)) return
  const first =
    reach.unreadable ??
    reach.missing ??
    segmentName(
      path.at(-1)?.timeline ?? from.timeline,
      Math.max(last + 1, segmentOf(from.startLsn)),
      map.segmentBytes,
    )
  throw await planning.unreachable(
    `backup ${backup.label} needs WAL segment ${first} to be consistent, and the archive does not have it${reach.unreadable === undefined ? '' : ' in a form that can be read'}`,
    'wal_missing',
  )
}

/** Whether a backup of a stopped server is all that is asked for. Recovery would need more of its WAL than starting. */
async function startsWithoutRecovery({
  planning,
  backup,
  reach,
  archive: { archive },
}: ReachContext): Promise<boolean> {
  const { type } = planning.target
  if (backup.offline !== true || backup.startWal === undefined) return false
  if (type === 'immediate') return true
  if (type !== 'latest') return false
  const { last } = reach
  const names = [backup.startWal, ...reach.segments(last, last).map(({ name }) => name)]
  const own = await Promise.all(names.map((name) => archive.isOwn?.(name)))
  return own.every((isOwn) => isOwn === true)
}

async function checkLatest(context: ReachContext): Promise<CheckedReach> {
  const { planning, archive, reach } = context
  await context.refuseUnreadable()
  if (reach.missing !== undefined) {
    const later = reach.nextThere && (await archive.archive.stat(reach.nextThere.name))
    if (later === undefined || planning.now() - later.storedAt > ARCHIVING_MS) throw await context.gap()
    planning.warnings.push({
      code: 'wal_missing',
      message: `WAL segment ${reach.missing} is not in the archive yet, though later ones are: recovery ends before it`,
    })
  }
  const end = await context.endOfWal()
  warnOfNothingAfterBackup(context, end)
  return asAsked(context.bytesToEnd(), atTheEnd(end))
}

/** A target that is one position in the WAL: an LSN, a transaction or a restore point. */
async function checkPosition(context: ReachContext, located: Located): Promise<CheckedReach> {
  const { planning, backup, from, reach, segmentOf, bytesTo } = context
  const { target, warnings } = planning
  if (located.kind !== 'at') {
    warnings.push({
      code: 'target_unreachable',
      message: `whether ${describeTarget(target)} is in the archive is not known, because not all of it was searched or can be read: PostgreSQL finds out; if it is before the end of backup ${backup.label}, ${endOf(backup)}, name an older one with --backup`,
    })
    return asAsked(undefined)
  }
  if (segmentOf(located.lsn) > reach.last) {
    await context.refuseUnreadable()
    if (reach.missing !== undefined) throw await context.gap()
    throw await context.beyondEnd(await context.endOfWal())
  }
  if (segmentOf(located.lsn) === reach.last) {
    const end = await context.endOfWal()
    if (end?.lastStart !== undefined && end.lastStart < located.lsn) throw await context.beyondEnd(end)
  }
  const earlier = located.others?.filter((lsn) => lsn >= from.stopLsn) ?? []
  if (earlier.length > 0) {
    warnings.push({
      code: 'target_unreachable',
      message: `the archive has ${describeTarget(target)} ${earlier.length + 1} times after backup ${backup.label}: recovery stops at the first, at LSN ${formatLsn(earlier[0] ?? 0n)}`,
    })
  }
  const lsn = earlier[0] ?? located.lsn
  const lastCommit = target.type === 'xid' ? isoTime(located.time) : undefined
  return asAsked(bytesTo(lsn), { lsn: formatLsn(lsn), ...(lastCommit && { lastCommit }) })
}

function warnOfNothingAfterBackup(
  { planning, backup, from, reach, segmentOf }: ReachContext,
  end: WalEnd | undefined,
): void {
  if (reach.last > segmentOf(from.stopLsn - 1n) || (end?.lastCommitLsn ?? 0n) >= from.stopLsn) return
  planning.warnings.push({
    code: 'wal_missing',
    message: `the archive holds nothing of after the end of backup ${backup.label}, ${endOf(backup)}: that is what is recovered to`,
  })
}
