/** Whether recovery from a backup reaches its target with what the archive holds, and what it reaches. */
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { Reaches } from '../../../messages/steps.ts'
import type { RecoverTo } from '../../../messages/values.ts'
import { formatLsn, segmentAt, segmentName, segmentStart } from '../../wal/lsn.ts'
import { READABLE } from '../wal-listing.ts'
import { type ArchiveMap, pathFor, reachFrom } from './archive-map.ts'
import { type InstanceArchive, type PlacedBackup, placed } from './instance-archive.ts'
import { endOf, type Planning } from './planning.ts'
import { describeTarget, formatTime, isoTime, type RecoveryTarget } from './recovery-target.ts'
import type { StartingBackup } from './starting-backup.ts'
import type { WalEnd } from './wal-inspector.ts'

export interface CheckedReach {
  /** What recovery is told, where that differs from what was asked. */
  readonly recoverTo: RecoverTo | undefined
  /** Bytes of WAL to replay; undefined: not known. */
  readonly walBytes: number | undefined
  readonly reaches: Reaches | undefined
  /** The server is started as it was stopped, with the WAL in the backup: there is nothing to recover to. */
  readonly withoutRecovery?: boolean
}

/** A segment may be missing for as long as it takes to be archived: several are pushed side by side. */
const ARCHIVING_MS = 10 * 60_000
/** Segments in which the last commit before a time is looked for. */
const LOOK_AHEAD_SEGMENTS = 8

/** @throws HowdahError `target_unreachable` | `wal_missing`, and what reading the archive throws */
export async function checkReach(planning: Planning, chosen: StartingBackup): Promise<CheckedReach> {
  const { target, warnings } = planning
  const { backup, archive } = chosen
  if (target.type !== 'immediate') {
    for (const message of archive.remarks) warnings.push({ code: 'wal_missing', message })
  }
  const from = placed(backup)
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
    return { recoverTo: undefined, walBytes: undefined, reaches: undefined }
  }
  return checkPlaced(planning, chosen, archive, map, from)
}

async function checkPlaced(
  { target, warnings, unreachable, recoverTo, now, name, knowledge }: Planning,
  { backup, located }: StartingBackup,
  archive: InstanceArchive,
  map: ArchiveMap,
  from: PlacedBackup,
): Promise<CheckedReach> {
  const path = pathFor(map, target.timeline, from.timeline)
  const reach = reachFrom(map, path, segmentAt(from.startLsn, map.segmentBytes))
  const { last } = reach
  const segmentOf = (lsn: bigint) => segmentAt(lsn, map.segmentBytes)
  const bytesTo = (lsn: bigint) => Number(lsn > from.startLsn ? lsn - from.startLsn : 0n)
  const toTheEnd = () => bytesTo(segmentStart(last + 1, map.segmentBytes))
  const asAsked = (walBytes: number | undefined, reaches?: Reaches): CheckedReach => ({
    recoverTo: undefined,
    walBytes,
    reaches,
  })
  const beyond = `${capital(describeTarget(target))} cannot be reached from backup ${backup.label}`

  if (backup.offline !== true && last < segmentOf(from.stopLsn - 1n)) {
    const first =
      reach.unreadable ??
      reach.missing ??
      segmentName(
        path.at(-1)?.timeline ?? from.timeline,
        Math.max(last + 1, segmentOf(from.startLsn)),
        map.segmentBytes,
      )
    throw await unreachable(
      `backup ${backup.label} needs WAL segment ${first} to be consistent, and the archive does not have it${reach.unreadable === undefined ? '' : ' in a form that can be read'}`,
      'wal_missing',
    )
  }

  if (await isWholeByItself()) {
    if (target.type === 'latest') tellOfNothingAfterBackup(undefined)
    return { ...asAsked(0, { lsn: formatLsn(from.stopLsn) }), withoutRecovery: true }
  }

  switch (target.type) {
    case 'immediate':
      return asAsked(bytesTo(from.stopLsn), { lsn: formatLsn(from.stopLsn) })
    case 'latest': {
      await refuseUnreadable()
      if (reach.missing !== undefined) {
        const later = reach.nextThere && (await archive.archive.stat(reach.nextThere.name))
        if (later === undefined || now() - later.storedAt > ARCHIVING_MS) throw await gap()
        warnings.push({
          code: 'wal_missing',
          message: `WAL segment ${reach.missing} is not in the archive yet, though later ones are: recovery ends before it`,
        })
      }
      const end = await endOfWal()
      tellOfNothingAfterBackup(end)
      return asAsked(toTheEnd(), atTheEnd(end))
    }
    case 'time':
      return checkTime(target, await endOfWal())
    case 'lsn':
    case 'xid':
    case 'name': {
      if (located.kind !== 'at') {
        warnings.push({
          code: 'target_unreachable',
          message: `whether ${describeTarget(target)} is in the archive was not found out, not all of it was searched or can be read: PostgreSQL finds out; if it is before the end of backup ${backup.label}, ${endOf(backup)}, name an older one with --backup`,
        })
        return asAsked(undefined)
      }
      if (segmentOf(located.lsn) > last) {
        await refuseUnreadable()
        if (reach.missing !== undefined) throw await gap()
        throw await beyondEnd(await endOfWal())
      }
      if (segmentOf(located.lsn) === last) {
        const end = await endOfWal()
        if (end?.lastStart !== undefined && end.lastStart < located.lsn) throw await beyondEnd(end)
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
    default:
      return target satisfies never
  }

  /** Whether a backup of a stopped server is all that is asked for. Recovery would ask more of its WAL than starting. */
  async function isWholeByItself(): Promise<boolean> {
    if (backup.offline !== true || backup.startWal === undefined) return false
    if (target.type === 'immediate') return true
    if (target.type !== 'latest') return false
    const names = [backup.startWal, ...reach.segments(last, last).map(({ name }) => name)]
    const own = await Promise.all(names.map((name) => archive.archive.isOwn?.(name)))
    return own.every((isOwn) => isOwn === true)
  }

  async function refuseUnreadable(): Promise<void> {
    if (reach.unreadable === undefined) return
    throw await unreachable(
      `${beyond}: the archive lacks WAL segment ${reach.unreadable} in a form that can be read (it has ${map.examples[0]}); ${READABLE}`,
      'wal_missing',
    )
  }

  async function gap(): Promise<HowdahError> {
    return unreachable(
      `${beyond}: the archive lacks WAL segment ${reach.missing}, which comes before it`,
      'wal_missing',
    )
  }

  /** Undefined, with a warning: it cannot be read, and may not be needed. */
  async function endOfWal(): Promise<WalEnd | undefined> {
    let end: WalEnd
    try {
      end = await archive.end(reach)
    } catch (error) {
      const { code, message } = errorBody(error)
      if (code !== 'backup_damaged') throw error
      warnings.push({ code, message: `where the archive ends is not known: ${message}` })
      return undefined
    }
    const own = backup.systemIdentifier
    if (own === undefined || end.cluster === undefined || end.cluster === own) return end
    throw new HowdahError(
      'wal_missing',
      `the archive of ${name} holds WAL of another cluster, system identifier ${end.cluster}, and backup ${backup.label} is of ${own}; correct where the repository's WAL is`,
      { field: 'recoverTo' },
    )
  }

  function tellOfNothingAfterBackup(end: WalEnd | undefined): void {
    if (last > segmentOf(from.stopLsn - 1n) || (end?.lastCommitLsn ?? 0n) >= from.stopLsn) return
    warnings.push({
      code: 'wal_missing',
      message: `the archive holds nothing of after the end of backup ${backup.label}, ${endOf(backup)}: that is what is recovered to`,
    })
  }

  async function beyondEnd(end: WalEnd | undefined): Promise<HowdahError> {
    const where = end?.lastStart === undefined ? 'is before it' : `is at LSN ${formatLsn(end.lastStart)}`
    return unreachable(`${beyond}: the last record in the archive ${where}`)
  }

  async function checkTime(
    { time, inclusive }: Extract<RecoveryTarget, { type: 'time' }>,
    end: WalEnd | undefined,
  ): Promise<CheckedReach> {
    if (end === undefined) return asAsked(undefined)
    const { lastTime, lastCommit } = end
    // Recovery stops before the first transaction that ended later, or at that time where it is not included.
    const isReached = lastTime !== undefined && (inclusive ? lastTime > time : lastTime >= time)
    if (isReached) {
      const segment = await segmentOfTime(time)
      if (segment === undefined) return asAsked(undefined)
      return asAsked(bytesTo(segmentStart(segment + 1, map.segmentBytes)), await lastBefore(time, segment))
    }
    await refuseUnreadable()
    if (reach.missing !== undefined) throw await gap()
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
      walBytes: toTheEnd(),
      reaches: atTheEnd(end),
    }
  }

  /** The first segment that was stored after the time: those before it hold nothing of after that. Undefined: not known. */
  async function segmentOfTime(time: number): Promise<number | undefined> {
    let high = last
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
   * The last commit that is not later, looked for from that segment on: it is there where files have the times of their
   * archiving, and not much later where they are copies.
   */
  async function lastBefore(time: number, segment: number): Promise<Reaches | undefined> {
    const { inspector } = knowledge
    let before: Reaches | undefined
    for (const one of reach.segments(segment, segment + LOOK_AHEAD_SEGMENTS)) {
      const summary = await inspector.summary(archive.archive, one).catch(() => undefined)
      if (summary === undefined) return undefined
      if (summary.lastTime !== undefined && summary.lastTime > time) {
        const commit = await inspector.commitUntil(archive.archive, one, time)
        return commit === undefined ? before : reachesOf(undefined, commit.time, commit.lsn)
      }
      if (summary.lastCommit !== undefined) {
        before = reachesOf(undefined, summary.lastCommit, summary.lastCommitLsn)
      }
    }
    return undefined
  }
}

const atTheEnd = (end: WalEnd | undefined): Reaches | undefined =>
  end && reachesOf(end.lastEnd, end.lastCommit, end.lastCommitLsn)

function reachesOf(
  lsn: bigint | undefined,
  commitTime: number | undefined,
  commitLsn: bigint | undefined,
): Reaches {
  const lastCommit = isoTime(commitTime)
  return {
    ...(lsn !== undefined && { lsn: formatLsn(lsn) }),
    ...(lastCommit !== undefined && { lastCommit }),
    ...(commitLsn !== undefined && { lastCommitLsn: formatLsn(commitLsn) }),
  }
}

const capital = (text: string) => text.slice(0, 1).toUpperCase() + text.slice(1)
