/**
 * Checks whether a paused recovery can be advanced to another target, before its server is stopped: replay cannot be
 * undone, and with a target that never comes the current position would be lost.
 */
import { readFile } from 'node:fs/promises'
import { errorBody, HowdahError } from '../../../../messages/errors.ts'
import type { Paused } from '../../../../messages/values.ts'
import { historyName, lsnOf, segmentAt, segmentName, segmentStart } from '../../../wal/lsn.ts'
import { scanSegment, type WalRecord } from '../../../wal/scan-segment.ts'
import { readSegmentHeader } from '../../../wal/wal-pages.ts'
import { isStop, type RecoveryStop, recoveryStop } from '../../../wal/wal-records.ts'
import { type Identity, queryReadiness, queryRow } from '../connections/connection.ts'
import { exists } from '../process/atomic-file.ts'
import { recoverySettings } from '../settings/recovery-settings.ts'
import { hasTarget, type InstanceSpec, instancePaths, majorVersion } from '../specification.ts'
import { readControlData } from './control-data.ts'
import { describeTarget } from './start-failure.ts'

const ASK_TIMEOUT = 30_000
/** Two segments are in memory at a time. */
const LARGEST_SEGMENT = 256 * 1024 ** 2

/**
 * @param spec with the new target
 * @param paused the position that was reported when it paused
 * @throws HowdahError `target_unreachable` when the target lies behind, or is not in the archive; `repository_unavailable`
 *   when that cannot be read
 */
export async function requireTargetAhead(
  spec: InstanceSpec,
  paused: Paused | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  requireTarget(spec)
  const readiness = await queryReadiness(spec, ASK_TIMEOUT)
  const as = 'at' in readiness ? readiness.connectedAs : undefined
  if (!('at' in readiness) || as === undefined) return
  const lastCommit = readiness.at.lastCommit ?? paused?.lastCommit
  const at = { lsn: readiness.at.lsn, ...(lastCommit !== undefined && { lastCommit }) }
  if (await isBehind(spec, as, at))
    throw unreachable(`${described(spec)} lies behind: ${where(at)}. Choose a later one, or publish again.`)
  if ((await searchArchive(spec, as, at, signal)) === 'absent')
    throw unreachable(
      `${described(spec)} is not in the archive after the place where recovery is paused: ${where(at)}. Choose another target, or "latest".`,
    )
}

function requireTarget(spec: InstanceSpec): void {
  try {
    recoverySettings(spec)
  } catch (cause) {
    const { message, field } = errorBody(cause)
    throw unreachable(message, field, cause)
  }
}

function unreachable(message: string, field = 'recoverTo', cause?: unknown): HowdahError {
  return new HowdahError('target_unreachable', message, { field, cause })
}

function described(spec: InstanceSpec): string {
  const text = describeTarget(spec)
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`
}

function where({ lsn, lastCommit }: Paused): string {
  return `it stands at ${lsn}${lastCommit === undefined ? '' : `, its last transaction is of ${lastCommit}`}`
}

async function isBehind(spec: InstanceSpec, as: Identity, at: Paused): Promise<boolean> {
  const { type, value = '', inclusive = true } = spec.recoverTo
  const holds = async (condition: string, values: readonly string[]): Promise<boolean> => {
    try {
      const row = await queryRow<{ holds: boolean | null }>(
        spec,
        as,
        `SELECT ${condition} AS holds`,
        ASK_TIMEOUT,
        values,
      )
      return row?.holds === true
    } catch (cause) {
      throw unreachable(
        `${described(spec)} cannot be compared with where it stands: ${(cause as Error).message}`,
        'recoverTo.value',
        cause,
      )
    }
  }
  switch (type) {
    case 'latest':
      return false
    case 'immediate':
      return true
    case 'lsn':
      return holds('$1::pg_lsn < $2::pg_lsn', [value, at.lsn])
    case 'time':
      if (at.lastCommit === undefined) return false
      // The reported time of the last transaction is truncated to milliseconds.
      return holds(`$1::timestamptz ${inclusive ? '<' : '<='} date_trunc('milliseconds', $2::timestamptz)`, [
        value,
        at.lastCommit,
      ])
    case 'xid':
      return majorVersion(spec.version) >= 10 && holds(XID_ENDED, [value])
    case 'name':
      return false
    default:
      return type satisfies never
  }
}

/**
 * Whether a transaction has ended, given the 32 bits of its id that WAL contains. The full id is the one nearest to the next
 * id to be assigned. PostgreSQL documentation, "Transaction ID and Snapshot Information Functions".
 */
const XID_ENDED = `(
  SELECT CASE WHEN xid >= next THEN false ELSE coalesce(txid_status(xid) <> 'in progress', true) END
  FROM (SELECT next, next + (($1::bigint - next) % 4294967296 + 4294967296 + 2147483648) % 4294967296 - 2147483648 AS xid
        FROM (SELECT txid_snapshot_xmax(txid_current_snapshot()) AS next) AS snapshot) AS whole)`

/**
 * Searches the WAL after the current position for the target.
 * @returns `unknown` where the target may be on another timeline, or the WAL is none that can be read
 */
async function searchArchive(
  spec: InstanceSpec,
  as: Identity,
  { lsn }: Paused,
  signal: AbortSignal | undefined,
): Promise<'found' | 'absent' | 'unknown'> {
  const { type, value = '', timeline = 'latest' } = spec.recoverTo
  if (!hasTarget(spec) || majorVersion(spec.version) < 10) return 'unknown'
  const current = await currentTimeline(spec, as)
  const from = lsnOf(type === 'lsn' ? value : lsn)
  if (current === undefined || from === undefined) return 'unknown'
  const { wal } = instancePaths(spec)
  const others = typeof timeline === 'number' && timeline !== current
  const newer = `${wal}/${historyName(current + 1)}`
  if (others || (timeline === 'latest' && (await exists(newer)))) return 'unknown'
  const { walSegmentBytes } = await readControlData(spec)
  if (walSegmentBytes > LARGEST_SEGMENT) return 'unknown'
  const { wanted, matches } = await matcher(spec, as, from)
  const read = (segment: number) => readSegment(`${wal}/${segmentName(current, segment, walSegmentBytes)}`)
  let number = segmentAt(from, walSegmentBytes)
  for (let segment = await read(number); segment !== undefined; ) {
    signal?.throwIfAborted()
    const next = await read(number + 1)
    const base = segmentStart(number, walSegmentBytes)
    if (readSegmentHeader(segment)?.base !== base) return 'unknown'
    let found = false
    const visit = (record: WalRecord): void => {
      found ||= record.lsn >= from && matches(record)
    }
    scanSegment(segment, { base, next, wanted, visit })
    if (found) return 'found'
    segment = next
    number += 1
  }
  return 'absent'
}

/** A segment of the archive; undefined if the archive does not have it. */
async function readSegment(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    throw new HowdahError('repository_unavailable', `The WAL file ${path} could not be read: ${message}`, {
      cause,
    })
  }
}

interface Matcher {
  readonly wanted: (resourceManager: number, info: number) => boolean
  readonly matches: (record: WalRecord) => boolean
}

/** Matches the records at which recovery would stop. */
async function matcher(spec: InstanceSpec, as: Identity, from: bigint): Promise<Matcher> {
  const { type, value = '' } = spec.recoverTo
  const ofStop = (isIt: (stop: RecoveryStop) => boolean): Matcher => ({
    wanted: isStop,
    matches(record) {
      const stop = recoveryStop(record)
      return stop !== undefined && isIt(stop)
    },
  })
  switch (type) {
    case 'name':
      return ofStop((stop) => stop.kind === 'point' && stop.name === value)
    case 'time': {
      const row = await queryRow<{ at: number }>(
        spec,
        as,
        'SELECT (extract(epoch FROM $1::timestamptz) * 1000000)::float8 AS at',
        ASK_TIMEOUT,
        [value],
      )
      const asked = row?.at ?? 0
      return ofStop((stop) => stop.kind !== 'point' && stop.time >= asked)
    }
    case 'xid': {
      const xid = Number(BigInt(value) % 2n ** 32n)
      return ofStop((stop) => stop.kind !== 'point' && stop.xid === xid)
    }
    default:
      return { wanted: () => true, matches: ({ lsn }) => lsn >= from }
  }
}

async function currentTimeline(spec: InstanceSpec, as: Identity): Promise<number | undefined> {
  const query = `SELECT greatest(recovery.min_recovery_end_timeline, checkpoint.timeline_id) AS timeline
    FROM pg_control_recovery() AS recovery, pg_control_checkpoint() AS checkpoint`
  return (await queryRow<{ timeline: number }>(spec, as, query, ASK_TIMEOUT))?.timeline
}
