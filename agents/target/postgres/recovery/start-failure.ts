/**
 * Determines why the server of an instance ended before it was usable: from pg_control, what restore_command found in the
 * archive, the SQLSTATE codes in the log, and whether the port is free. PostgreSQL's messages are quoted, not interpreted.
 */
import { type ErrorCode, HowdahError } from '../../../../messages/errors.ts'
import { historyName, parseSegmentName, segmentStart } from '../../../wal/lsn.ts'
import { portProblem } from '../../preflight/port.ts'
import { exists } from '../process/atomic-file.ts'
import { sharedMemoryShortage } from '../process/shared-memory-space.ts'
import { HBA_HEADER_LINES } from '../settings/host-based-access.ts'
import { hasTarget, type InstanceSpec, instancePaths } from '../specification.ts'
import { readControlData } from './control-data.ts'
import type { ClusterState, ControlData } from './control-file.ts'
import type { LogReader, Reached } from './startup-log.ts'

const RECOVERING: ClusterState = 'in archive recovery'
/** Lines that an error quotes. */
const QUOTED_LINES = 6

/** SQLSTATE (PostgreSQL documentation, appendix A). */
const DISK_FULL = '53100'
const CONFIG_FILE_ERROR = 'F0000'
const INTERNAL_ERROR = 'XX000'
const NOT_IN_PREREQUISITE_STATE = '55000'
const PANIC = /\] PANIC: {2}/
/** Of messages of severity LOG. */
const SUCCESSFUL = '00000'
/** Codes of the errors of a recovery that ended early, in some versions; other errors have codes of their own. */
const ENDED_EARLY = new Set([INTERNAL_ERROR, CONFIG_FILE_ERROR, NOT_IN_PREREQUISITE_STATE])
/** The restore script's line when `cp` finds no room (strerror of ENOSPC in the C locale). */
const COPY_WITHOUT_ROOM = /from the archive failed: .*No space left on device/

interface Cause {
  readonly code: ErrorCode
  readonly field?: string
  readonly message: string
}

const walMissing = (spec: InstanceSpec, log: LogReader) => {
  const { first, last } = spec.neededWal ?? {}
  const needed =
    first === undefined
      ? 'WAL that the backup needs to become consistent'
      : `WAL that the backup needs to become consistent (segments ${first} to ${last ?? 'the end of the backup'})`
  const got =
    log.lastRestored === undefined ? 'no segment was found' : `the last one found is ${log.lastRestored}`
  return `The archive lacks ${needed}; ${got}. Publish another backup, or bring the segments back into the archive.`
}

/** Line numbers of the user's content, without Howdah's own lines before it. */
function wrongAccess({ reasons }: LogReader, hba: string): string {
  const wrong = reasons.flatMap((line, index) => {
    const number = line.includes(hba) ? Number(/line (\d+) /.exec(line)?.[1]) : Number.NaN
    const what = /LOG: {2}(.+)$/.exec(reasons[index - 1] ?? '')?.[1] ?? 'it is not valid'
    return Number.isNaN(number) ? [] : [`line ${number - HBA_HEADER_LINES}: ${what}`]
  })
  return `The content given for pg_hba.conf is wrong: ${wrong.join('; ')}. Correct it and publish again.`
}

function cacheFull({ cachePath }: InstanceSpec): Cause {
  return {
    code: 'space_low',
    message: `The write cache ran out of space while PostgreSQL recovered. Make room on the file system of ${cachePath}, or raise cache.quotaBytes of the target agent and restart that, and retry.`,
  }
}

/** Which file system is full: dynamic shared memory has one of its own. */
async function diskFullCause(spec: InstanceSpec): Promise<Cause> {
  const shortage = await sharedMemoryShortage()
  return shortage === undefined ? cacheFull(spec) : { code: 'shared_memory_low', message: shortage }
}

/** Says where the archive ends, before the target. */
export function endsBefore(
  spec: Pick<InstanceSpec, 'recoverTo'>,
  { lsn, time }: Reached,
  lastRestored: string | undefined,
): string {
  const at = lsn === undefined ? '' : ` at ${lsn}`
  const last = time === undefined ? 'it has no later transaction' : `its last transaction is of ${time}`
  const file = lastRestored === undefined ? '' : `, its last WAL file ${lastRestored}`
  return `The archive ends${at} before ${describeTarget(spec)}; ${last}${file}. Choose an earlier target, or "latest".`
}

/** The recovery target, in words. */
export function describeTarget({ recoverTo }: Pick<InstanceSpec, 'recoverTo'>): string {
  return recoverTo.value === undefined
    ? `the recovery target "${recoverTo.type}"`
    : `the recovery target ${recoverTo.type} ${recoverTo.value}`
}

/** The error for a server that ended. @param ending how it ended, in words */
export async function startFailure(spec: InstanceSpec, log: LogReader, ending: string): Promise<HowdahError> {
  const cause = (await causeOutsideRecovery(spec, log)) ?? (await recoveryCause(spec, log))
  return failure(spec, log, cause, ending)
}

/** The error for a server that waits for WAL that it needs to become consistent, and that the archive lacks. */
export function archiveTooShort(spec: InstanceSpec, log: LogReader): HowdahError {
  return failure(spec, log, { code: 'wal_missing', message: walMissing(spec, log) }, '')
}

function failure(spec: InstanceSpec, log: LogReader, cause: Cause | undefined, ending: string): HowdahError {
  const path = instancePaths(spec).log
  const quoted = log.reasons.slice(-QUOTED_LINES).map((line) => line.replace(/^.*?\] (?=[A-Z]+: )/, ''))
  const said = quoted.length === 0 ? '' : ` PostgreSQL said: ${quoted.join(' | ')}`
  if (cause === undefined)
    return new HowdahError(
      // PostgreSQL logs every failure of its own, so without a message it was killed.
      quoted.length === 0 ? 'postgres_killed' : 'postgres_failed',
      `PostgreSQL ${ending}.${said} The whole log is in ${path}.`,
    )
  const { code, field, message } = cause
  return new HowdahError(
    code,
    `${message.charAt(0).toUpperCase()}${message.slice(1)}${said} The whole log is in ${path}.`,
    field === undefined ? {} : { field },
  )
}

const portInUse = ({ port }: InstanceSpec): string =>
  `Port ${port} is in use on the target (who by: ss -ltnp 'sport = :${port}'). Choose another port, or free it and retry.`

/**
 * PostgreSQL starts as soon as one address of `localhost` is free, and clients of the other would reach somebody else.
 * @throws HowdahError `port_taken` while no server of the session runs
 */
export async function requireFreePort(spec: InstanceSpec): Promise<void> {
  if ((await portProblem(spec.port)) === 'EADDRINUSE')
    throw new HowdahError('port_taken', portInUse(spec), { field: 'port' })
}

/** What the server lacked on this machine, or was given. */
async function causeOutsideRecovery(spec: InstanceSpec, log: LogReader): Promise<Cause | undefined> {
  if (log.sqlStates.has(DISK_FULL)) return diskFullCause(spec)
  if (log.reasons.some((line) => COPY_WITHOUT_ROOM.test(line))) return cacheFull(spec)
  const { hba } = instancePaths(spec)
  if (log.sqlStates.has(CONFIG_FILE_ERROR) && log.reasons.some((line) => line.includes(`"${hba}"`)))
    return { code: 'configuration', field: 'hba', message: wrongAccess(log, hba) }
  // The server has ended, so another process listens there.
  if (log.reasons.length > 0 && (await portProblem(spec.port)) === 'EADDRINUSE')
    return { code: 'port_taken', field: 'port', message: portInUse(spec) }
  return undefined
}

/** Why recovery could not come as far as was asked. */
async function recoveryCause(spec: InstanceSpec, log: LogReader): Promise<Cause | undefined> {
  // Without a message the server was killed; with other codes it failed for another reason.
  const states = [...log.sqlStates].filter((state) => state !== SUCCESSFUL)
  if (log.reasons.length === 0 || states.some((state) => !ENDED_EARLY.has(state))) return undefined
  const control = await readControlData(spec).catch(() => undefined)
  if (control === undefined) return undefined
  if (!(await hasTimeline(spec, control)))
    return {
      code: 'target_unreachable',
      field: 'recoverTo.timeline',
      message: `Timeline ${String(spec.recoverTo.timeline)} cannot be reached from this backup: the archive has no history of it. ${describeTarget(spec)} needs another timeline or another backup.`,
    }
  const consistent = isConsistent(control, log.absent)
  if (!consistent && log.absent !== undefined) return { code: 'wal_missing', message: walMissing(spec, log) }
  if (!hasTarget(spec) || log.reasons.some((line) => PANIC.test(line))) return undefined
  if (consistent && log.absent !== undefined)
    return {
      code: 'target_unreachable',
      field: 'recoverTo',
      message: endsBefore(spec, log.reached, log.lastRestored),
    }
  // The archive had all that was requested, and recovery ended by itself before the backup was consistent.
  if (control.state === RECOVERING && !consistent)
    return {
      code: 'target_unreachable',
      field: 'recoverTo',
      message: `${describeTarget(spec)} is before the end of the backup. Choose an older backup or a later target.`,
    }
  return undefined
}

/**
 * Whether recovery has replayed everything that was written while the backup was taken.
 * @param absent the segment at which the archive ended, if it did
 */
export function isConsistent(control: ControlData, absent?: string): boolean {
  const { state, backupEndAwaited, minRecoveryPoint, walSegmentBytes } = control
  if (state !== RECOVERING || backupEndAwaited) return false
  const end = absent === undefined ? undefined : parseSegmentName(absent, walSegmentBytes)
  return end === undefined || segmentStart(end.segment, walSegmentBytes) >= minRecoveryPoint
}

/** Whether the archive knows the requested timeline. */
async function hasTimeline(spec: InstanceSpec, { timeline }: ControlData): Promise<boolean> {
  const wanted = spec.recoverTo.timeline
  if (typeof wanted !== 'number' || wanted === timeline) return true
  return exists(`${instancePaths(spec).wal}/${historyName(wanted)}`)
}
