/**
 * What the checks of a recovery target share: the backup, the segments that its recovery reaches, the errors that name
 * what is missing, and the end of that WAL.
 */
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { Reaches } from '../../../messages/steps.ts'
import type { BackupSummary, RecoverTo } from '../../../messages/values.ts'
import { formatLsn, segmentAt, segmentStart } from '../../wal/lsn.ts'
import { READABLE_FORMS } from '../wal-listing.ts'
import { type ArchiveMap, pathFor, type Reach, reachFrom } from './archive-map.ts'
import type { BackupRange, InstanceArchive } from './instance-archive.ts'
import type { Planning } from './planning.ts'
import { describeTarget, isoTime } from './recovery-target.ts'
import type { TimelinePath } from './timelines.ts'
import type { WalEnd } from './wal-inspector.ts'

export interface CheckedReach {
  /** The recovery target for PostgreSQL, where it differs from what was asked. */
  readonly recoverTo: RecoverTo | undefined
  /** Bytes of WAL to replay; undefined: not known. */
  readonly walBytes: number | undefined
  readonly reaches: Reaches | undefined
  /** The server is started as it was stopped, with the WAL in the backup: there is nothing to recover to. */
  readonly withoutRecovery?: boolean
}

export interface ReachContext {
  readonly planning: Planning
  readonly backup: BackupSummary
  readonly from: BackupRange
  readonly archive: InstanceArchive
  readonly map: ArchiveMap
  readonly path: TimelinePath
  readonly reach: Reach
  segmentOf(lsn: bigint): number
  /** Bytes of WAL from the start of the backup to `lsn`. */
  bytesTo(lsn: bigint): number
  /** Bytes of WAL from the start of the backup to the end of the last segment in reach. */
  bytesToEnd(): number
  /**
   * The end of the WAL in reach. Undefined, with a warning: it cannot be read, and may not be needed.
   * @throws HowdahError `wal_missing` when the archive is of another cluster; what reading the archive throws
   */
  endOfWal(): Promise<WalEnd | undefined>
  /** @throws HowdahError `wal_missing` when the segment after the last one is there in a form that cannot be read */
  refuseUnreadable(): Promise<void>
  /** The error of a target that comes after a missing segment. */
  gap(): Promise<HowdahError>
  /** The error of a target that comes after the end of the archive. */
  beyondEnd(end: WalEnd | undefined): Promise<HowdahError>
}

export function createReachContext(
  planning: Planning,
  backup: BackupSummary,
  archive: InstanceArchive,
  map: ArchiveMap,
  from: BackupRange,
): ReachContext {
  const { target, warnings, unreachable, name } = planning
  const segmentOf = (lsn: bigint) => segmentAt(lsn, map.segmentBytes)
  const path = pathFor(map, target.timeline, from.timeline)
  const reach = reachFrom(map, path, segmentOf(from.startLsn))
  const bytesTo = (lsn: bigint) => Number(lsn > from.startLsn ? lsn - from.startLsn : 0n)
  const cannot = `${capital(describeTarget(target))} cannot be reached from backup ${backup.label}`
  return {
    planning,
    backup,
    from,
    archive,
    map,
    path,
    reach,
    segmentOf,
    bytesTo,
    bytesToEnd: () => bytesTo(segmentStart(reach.last + 1, map.segmentBytes)),
    async endOfWal() {
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
    },
    async refuseUnreadable() {
      if (reach.unreadable === undefined) return
      throw await unreachable(
        `${cannot}: the archive lacks WAL segment ${reach.unreadable} in a form that can be read (it has ${map.examples[0]}); ${READABLE_FORMS}`,
        'wal_missing',
      )
    },
    gap: () =>
      unreachable(
        `${cannot}: the archive lacks WAL segment ${reach.missing}, which comes before it`,
        'wal_missing',
      ),
    beyondEnd(end) {
      const where = end?.lastStart === undefined ? 'is before it' : `is at LSN ${formatLsn(end.lastStart)}`
      return unreachable(`${cannot}: the last record in the archive ${where}`)
    },
  }
}

/** The target as it was asked for. */
export const asAsked = (walBytes: number | undefined, reaches?: Reaches): CheckedReach => ({
  recoverTo: undefined,
  walBytes,
  reaches,
})

export const atTheEnd = (end: WalEnd | undefined): Reaches | undefined =>
  end && reachesOf(end.lastEnd, end.lastCommit, end.lastCommitLsn)

export function reachesOf(
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
