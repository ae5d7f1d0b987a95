/**
 * From a recovery target to the backup that recovery begins with, and what recovery is told: checked against what the
 * archive holds before anything is mounted. What only replay can tell is left to PostgreSQL.
 */
import { type ErrorCode, errorBody, HowdahError } from '../../../messages/errors.ts'
import type { BackupSummary, RecoverTo } from '../../../messages/values.ts'
import { formatLsn, lsnOf, segmentAt, segmentName, segmentStart } from '../../wal/lsn.ts'
import { type BackupRequest, candidates } from '../choose-backup.ts'
import type { Instance } from '../repository.ts'
import { type ArchiveMap, pathFor, type Reach, reachFrom } from './archive-map.ts'
import {
  type ArchiveKnowledge,
  type InstanceArchive,
  openInstanceArchive,
  type PlacedBackup,
  placed,
} from './instance-archive.ts'
import { type Located, locateTarget } from './locate-target.ts'
import { describeTarget, formatTime, parseRecoveryTarget, type RecoveryTarget } from './recovery-target.ts'
import { isOnPath, type TimelinePath } from './timelines.ts'
import type { WalEnd } from './wal-inspector.ts'
import { describeWindows, instanceWindows, inUtc } from './windows.ts'

export interface Warning {
  readonly code: ErrorCode
  readonly message: string
}

export interface RecoveryPlan {
  readonly backup: BackupSummary
  /** What recovery is told, where that differs from what was asked. */
  readonly recoverTo: RecoverTo | undefined
  /** Bytes of WAL to replay; undefined: not known. */
  readonly walBytes: number | undefined
  readonly warnings: readonly Warning[]
}

/** A segment may be missing for as long as it takes to be archived: several are pushed side by side. */
const ARCHIVING_MS = 10 * 60_000
/** pgBackRest tells the end of a backup in whole seconds, cut off. Microseconds. */
const REST_OF_SECOND = 999_999

/**
 * @throws HowdahError `invalid_message` | `unknown_backup` | `backup_unsupported` | `target_unreachable` | `wal_missing`,
 *   and what reading the archive throws
 */
export async function planRecovery(
  request: BackupRequest,
  instance: Instance,
  knowledge: ArchiveKnowledge,
  now: () => number,
): Promise<RecoveryPlan> {
  const target = parseRecoveryTarget(request.recoverTo)
  const backups = await instance.backups()
  const all = candidates(request, backups)
  const isNamed = request.backup !== 'latest'
  const name = `${request.repository}/${request.instance}`
  const archives = new Map<string, InstanceArchive>()
  const warnings: Warning[] = []

  async function archiveOf(backup: BackupSummary): Promise<InstanceArchive> {
    const { id } = await instance.wal(backup)
    const known = archives.get(id)
    if (known !== undefined) return known
    const opened = await openInstanceArchive(instance, backup, knowledge)
    archives.set(id, opened)
    return opened
  }

  /** With what is possible instead. */
  async function unreachable(finding: string, code: ErrorCode = 'target_unreachable'): Promise<HowdahError> {
    const possible = describeWindows(name, await instanceWindows(instance, backups, knowledge))
    return new HowdahError(code, `${finding}; ${possible}`, { field: 'recoverTo' })
  }

  /** The newest candidate that is on the way to the target, and ended before it. */
  async function choose(): Promise<{ backup: BackupSummary; archive: InstanceArchive; located: Located }> {
    const newest = await archiveOf(all[0])
    const located: Located =
      newest.map === undefined
        ? { kind: 'elsewhere' }
        : await locateTarget(target, all, newest.archive, newest.map, knowledge.inspector)
    if (located.kind === 'absent') {
      const after = isNamed ? `after the end of backup ${all[0].label}` : 'that could be recovered to'
      const intro = `the archive has no ${describeTarget(target)} ${after}`
      throw await unreachable(located.there === '' ? intro : `${intro}; ${located.there}`)
    }
    let otherBranch: BackupSummary | undefined
    let doubtful: { backup: BackupSummary; archive: InstanceArchive; located: Located } | undefined
    for (const backup of all) {
      // Positions of different clusters have nothing to do with each other.
      if (target.type !== 'time' && backup.systemIdentifier !== all[0].systemIdentifier) break
      if (!isBefore(backup, located, 0)) continue
      const archive = await archiveOf(backup)
      const { map } = archive
      const own = backup.timeline
      if (map !== undefined && own !== undefined) {
        const path = pathFor(map, target.timeline, own)
        if (!isOnPath(path, own, placed(backup)?.stopLsn)) {
          otherBranch ??= backup
          continue
        }
      }
      const isCertain = isNamed || isBefore(backup, located, REST_OF_SECOND)
      if (isCertain || (await endedInTime(backup, archive))) return { backup, archive, located }
      doubtful ??= { backup, archive, located }
    }
    if (doubtful !== undefined) return doubtful
    const asked = describeTarget(target)
    if (otherBranch !== undefined) {
      const finding = isNamed
        ? `backup ${otherBranch.label} is not on the way to timeline ${timelineText(newest, otherBranch)}: it ended on timeline ${otherBranch.timeline} at ${otherBranch.stopLsn}`
        : `no backup of ${name} that ended before ${asked} is on the way to timeline ${timelineText(newest, otherBranch)}`
      throw await unreachable(
        `${finding}; its own timeline can be recovered to with timeline ${otherBranch.timeline}`,
      )
    }
    const [first] = isNamed ? all : all.toReversed()
    const ended = first === undefined ? 'no known time' : endOf(first)
    throw await unreachable(
      isNamed
        ? `backup ${first?.label} ended at ${ended}, after ${asked}: take an older backup, or a later target`
        : `no backup of ${name} ended before ${asked}, the first one ended at ${ended}`,
    )
  }

  /** Whether recovery to the time stops only after the backup's end: no transaction before that ended later. */
  async function endedInTime(backup: BackupSummary, { archive, map }: InstanceArchive): Promise<boolean> {
    const place = placed(backup)
    if (target.type !== 'time' || map === undefined || place === undefined) return true
    const { startLsn, stopLsn, timeline } = place
    const path = pathFor(map, target.timeline, timeline)
    const last = segmentAt(stopLsn, map.segmentBytes)
    const first = segmentAt(startLsn, map.segmentBytes)
    const segments = reachFrom(map, path, first)
      .segments(first, last)
      .map((one) => (one.segment === last ? { ...one, before: stopLsn } : one))
    const { lastTime } = await knowledge.inspector.end(archive, segments)
    return lastTime === undefined || lastTime <= target.time
  }

  function timelineText({ map }: InstanceArchive, { timeline }: BackupSummary): string {
    if (map === undefined || timeline === undefined) return String(target.timeline)
    return String(pathFor(map, target.timeline, timeline).at(-1)?.timeline)
  }

  /** @param doubt microseconds by which the backup's end may be later than it says */
  function isBefore({ stoppedAt, stopLsn }: BackupSummary, located: Located, doubt: number): boolean {
    const stop = lsnOf(stopLsn)
    if (target.type === 'time') {
      return stoppedAt === undefined || Date.parse(stoppedAt) * 1000 + doubt <= target.time
    }
    if (stop === undefined) return true
    if (located.kind === 'at') return stop <= located.lsn
    if (located.kind === 'unknown' && located.before !== undefined && !isNamed) return stop <= located.before
    return true
  }

  const { backup, archive, located } = await choose()
  const place = placed(backup)
  if (archive.map === undefined || place === undefined) {
    return { backup, recoverTo: undefined, walBytes: undefined, warnings }
  }
  const { map } = archive
  const path = pathFor(map, target.timeline, place.timeline)
  const reach = reachFrom(map, path, segmentAt(place.startLsn, map.segmentBytes))
  const checked = await checkReach(place, path, map, reach)
  return { backup, warnings, ...checked }

  async function checkReach(
    from: PlacedBackup,
    path: TimelinePath,
    map: ArchiveMap,
    reach: Reach,
  ): Promise<Pick<RecoveryPlan, 'recoverTo' | 'walBytes'>> {
    const { last } = reach
    const segmentOf = (lsn: bigint) => segmentAt(lsn, map.segmentBytes)
    const bytesTo = (lsn: bigint) => Number(lsn > from.startLsn ? lsn - from.startLsn : 0n)
    const toTheEnd = () => bytesTo(segmentStart(last + 1, map.segmentBytes))
    const asAsked = (walBytes: number | undefined) => ({ recoverTo: undefined, walBytes })

    if (last < segmentOf(from.stopLsn - 1n)) {
      const first =
        reach.missing ??
        segmentName(
          path.at(-1)?.timeline ?? from.timeline,
          Math.max(last + 1, segmentOf(from.startLsn)),
          map.segmentBytes,
        )
      throw await unreachable(
        `backup ${backup.label} needs WAL segment ${first} to be consistent, and the archive does not have it`,
        'wal_missing',
      )
    }
    const gap = async (finding: string) =>
      unreachable(
        `${finding}: the archive lacks WAL segment ${reach.missing}, which comes before it`,
        'wal_missing',
      )
    const beyond = `${capital(describeTarget(target))} cannot be reached from backup ${backup.label}`

    switch (target.type) {
      case 'immediate':
        return asAsked(bytesTo(from.stopLsn))
      case 'latest': {
        if (reach.missing === undefined) return asAsked(toTheEnd())
        const later = reach.nextThere && (await archive.archive.stat(reach.nextThere.name))
        if (later === undefined || now() - later.storedAt > ARCHIVING_MS) throw await gap(beyond)
        warnings.push({
          code: 'wal_missing',
          message: `WAL segment ${reach.missing} is not in the archive yet, though later ones are: recovery ends before it`,
        })
        return asAsked(toTheEnd())
      }
      case 'time':
        return checkTime(target, await endOfWal())
      case 'lsn':
      case 'xid':
      case 'name': {
        if (located.kind !== 'at') {
          warnings.push({
            code: 'target_unreachable',
            message: `whether ${describeTarget(target)} is in the archive was not looked for in all of it: PostgreSQL finds out`,
          })
          return asAsked(undefined)
        }
        if (segmentOf(located.lsn) > last) {
          if (reach.missing !== undefined) throw await gap(beyond)
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
        return asAsked(bytesTo(earlier[0] ?? located.lsn))
      }
      default:
        return target satisfies never
    }

    /** Undefined, with a warning: it cannot be read, and may not be needed. */
    async function endOfWal(): Promise<WalEnd | undefined> {
      try {
        return await archive.end(reach)
      } catch (error) {
        const { code, message } = errorBody(error)
        if (code !== 'backup_damaged') throw error
        warnings.push({ code, message: `where the archive ends is not known: ${message}` })
        return undefined
      }
    }

    async function beyondEnd(end: WalEnd | undefined): Promise<HowdahError> {
      const where = end?.lastStart === undefined ? 'is before it' : `is at LSN ${formatLsn(end.lastStart)}`
      return unreachable(`${beyond}: the last record in the archive ${where}`)
    }

    async function checkTime(
      { time, inclusive }: Extract<RecoveryTarget, { type: 'time' }>,
      end: WalEnd | undefined,
    ): Promise<Pick<RecoveryPlan, 'recoverTo' | 'walBytes'>> {
      if (end === undefined) return asAsked(undefined)
      const { lastTime, lastCommit } = end
      // Recovery stops before the first transaction that ended later, or at that time where it is not included.
      const isReached = lastTime !== undefined && (inclusive ? lastTime > time : lastTime >= time)
      if (isReached) return asAsked(await bytesUntil(time))
      if (reach.missing !== undefined) throw await gap(beyond)
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
      const timeline = request.recoverTo.timeline
      return {
        recoverTo: { type: 'latest', ...(timeline !== undefined && { timeline }) },
        walBytes: toTheEnd(),
      }
    }

    /** To the end of the first segment that was stored after the time: a segment holds nothing of after that. */
    async function bytesUntil(time: number): Promise<number | undefined> {
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
      return bytesTo(segmentStart(low + 1, map.segmentBytes))
    }
  }
}

function endOf({ stoppedAt, stopLsn }: BackupSummary): string {
  const at = stoppedAt === undefined ? 'an unknown time' : inUtc(stoppedAt)
  return stopLsn === undefined ? at : `${at} (LSN ${stopLsn})`
}

const capital = (text: string) => text.slice(0, 1).toUpperCase() + text.slice(1)
