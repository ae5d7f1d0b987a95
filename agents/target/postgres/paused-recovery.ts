/**
 * Finds out whether a recovery that stands still can be moved on to another target, before anything of it is stopped:
 * what was replayed cannot be taken back, and a target that never comes would cost the place where it stands.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Paused } from '../../../messages/definitions.ts'
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import { askReadiness, type Identity, queryRow } from './connection.ts'
import { readControlData } from './control-data.ts'
import { exists } from './own-file.ts'
import { recoverySettings } from './recovery-settings.ts'
import { type InstanceSpec, instancePaths, majorVersion } from './specification.ts'
import { describeTarget } from './start-failure.ts'
import { identity } from './user-process.ts'

const ASK_TIMEOUT = 30_000

/**
 * @param spec with the new target
 * @param paused where it stands, as was said
 * @throws HowdahError `target_unreachable` when the target lies behind, or is not in the archive
 */
export async function requireAhead(
  spec: InstanceSpec,
  paused: Paused | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  requireTarget(spec)
  const readiness = await askReadiness(spec, ASK_TIMEOUT)
  const as = 'at' in readiness ? readiness.connectedAs : undefined
  if (!('at' in readiness) || as === undefined) return
  const lastCommit = readiness.at.lastCommit ?? paused?.lastCommit
  const at = { lsn: readiness.at.lsn, ...(lastCommit !== undefined && { lastCommit }) }
  if (await liesBehind(spec, as, at))
    throw unreachable(`${described(spec)} lies behind: ${where(at)}. Choose a later one, or publish again.`)
  if ((await lookAhead(spec, as, at, signal)) === 'absent')
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

async function liesBehind(spec: InstanceSpec, as: Identity, at: Paused): Promise<boolean> {
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
      // What the last transaction's time is told with ends at milliseconds.
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
 * Whether a transaction, by the 32 bits that WAL has of its number, has ended. The whole number is the one that is
 * nearest to the next that will be given. PostgreSQL documentation, "Transaction ID and Snapshot Information Functions".
 */
const XID_ENDED = `(
  SELECT CASE WHEN xid >= next THEN false ELSE coalesce(txid_status(xid) <> 'in progress', true) END
  FROM (SELECT next, next + (($1::bigint - next) % 4294967296 + 4294967296 + 2147483648) % 4294967296 - 2147483648 AS xid
        FROM (SELECT txid_snapshot_xmax(txid_current_snapshot()) AS next) AS snapshot) AS whole)`

/**
 * Reads the WAL after the place where it stands for the target, with PostgreSQL's own pg_waldump.
 * @returns `unknown` where the target may be on another timeline, or pg_waldump is not there
 */
async function lookAhead(
  spec: InstanceSpec,
  as: Identity,
  { lsn }: Paused,
  signal: AbortSignal | undefined,
): Promise<'found' | 'absent' | 'unknown'> {
  const { type, value = '', timeline = 'latest' } = spec.recoverTo
  if (type === 'latest' || type === 'immediate' || majorVersion(spec.version) < 10) return 'unknown'
  const current = await currentTimeline(spec, as)
  if (current === undefined) return 'unknown'
  const { wal } = instancePaths(spec)
  const others = typeof timeline === 'number' && timeline !== current
  if (others || (timeline === 'latest' && (await exists(`${wal}/${hex(current + 1)}.history`))))
    return 'unknown'
  const { walSegmentBytes } = await readControlData(spec)
  const from = type === 'lsn' ? value : lsn
  // The mount lists the segments that were asked for, and pg_waldump learns their size from one that is listed.
  if (!(await exists(`${wal}/${segmentName(current, from, walSegmentBytes)}`))) return 'absent'
  const matches = await matcher(spec, as)
  const args = [
    ...['--path', wal, '--timeline', String(current), '--start', from, ...FILTERS[type]],
    ...(type === 'xid' ? ['--xid', String(BigInt(value) % 2n ** 32n)] : []),
  ]
  const child = spawn(`${spec.binaries}/pg_waldump`, args, {
    ...identity(spec.user),
    env: { LC_ALL: 'C', TZ: 'UTC' },
    stdio: ['ignore', 'pipe', 'ignore'],
    ...(signal !== undefined && { signal }),
  })
  const started = new Promise<boolean>((resolve) => {
    child.once('spawn', () => resolve(true))
    child.once('error', () => resolve(false))
  })
  try {
    if (!(await started)) return 'unknown'
    for await (const line of createInterface({ input: child.stdout })) if (matches(line)) return 'found'
    signal?.throwIfAborted()
    return 'absent'
  } finally {
    child.kill('SIGKILL')
  }
}

/** Records that a target of each type can be reached at. */
const FILTERS = {
  time: ['--rmgr', 'Transaction'],
  xid: ['--rmgr', 'Transaction'],
  name: ['--rmgr', 'XLOG'],
  lsn: ['--limit', '1'],
} as const

/** What a line of pg_waldump must be like (src/backend/access/rmgrdesc/xactdesc.c and xlogdesc.c). */
async function matcher(spec: InstanceSpec, as: Identity): Promise<(line: string) => boolean> {
  const { type, value = '', inclusive = true } = spec.recoverTo
  const ends = /desc: (?:COMMIT|ABORT)/
  switch (type) {
    case 'name':
      return (line) => line.endsWith(`desc: RESTORE_POINT ${value}`)
    case 'time': {
      const row = await queryRow<{ at: number }>(
        spec,
        as,
        'SELECT extract(epoch FROM $1::timestamptz)::float8 * 1000 AS at',
        ASK_TIMEOUT,
        [value],
      )
      const asked = row?.at ?? 0
      return (line) => {
        const time = /(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?) UTC/.exec(line)
        if (!ends.test(line) || time === null) return false
        // Recovery stops at the first transaction after the time, or at it.
        const at = Date.parse(`${time[1]}T${time[2]}Z`)
        return inclusive ? at >= Math.floor(asked) : at + 1 >= asked
      }
    }
    case 'xid':
      return (line) => ends.test(line)
    default:
      return (line) => line.startsWith('rmgr:')
  }
}

async function currentTimeline(spec: InstanceSpec, as: Identity): Promise<number | undefined> {
  const query = `SELECT greatest(recovery.min_recovery_end_timeline, checkpoint.timeline_id) AS timeline
    FROM pg_control_recovery() AS recovery, pg_control_checkpoint() AS checkpoint`
  return (await queryRow<{ timeline: number }>(spec, as, query, ASK_TIMEOUT))?.timeline
}

/** The name of the segment that an LSN is in (src/include/access/xlog_internal.h, XLogFileName). */
function segmentName(timeline: number, lsn: string, segmentBytes: number): string {
  const [high = '0', low = '0'] = lsn.split('/')
  const number = ((BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)) / BigInt(segmentBytes)
  const perFile = 2n ** 32n / BigInt(segmentBytes)
  return `${hex(timeline)}${hex(number / perFile)}${hex(number % perFile)}`
}

function hex(number: number | bigint): string {
  return number.toString(16).toUpperCase().padStart(8, '0')
}
