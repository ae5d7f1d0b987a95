/**
 * The life of a published instance's server: start it and wait until it is usable, find it again, move its recovery on.
 *
 * The server runs detached and outlives the agent. What is known of it is on this machine: its process, and a record
 * beside its configuration, in a directory that only the agent may write to. A finished start is never done twice.
 */
import { stat } from 'node:fs/promises'
import { errorBody, HowdahError } from '../../../messages/errors.ts'
import type { RecoverResult } from '../../../messages/steps.ts'
import type { RecoverTo } from '../../../messages/values.ts'
import { requireNoLaterTablespace } from '../tablespaces/search-request.ts'
import { recordCreatedTablespaces } from '../tablespaces/session-tablespaces.ts'
import { adopt, type LaunchDependencies, launch } from './process/launch.ts'
import { findPostmaster, type Postmaster, postmasterAt } from './process/process-table.ts'
import { type InstanceRecord, readRecord, writeRecord } from './process/record.ts'
import { stopInstance } from './process/stop.ts'
import { awaitUsable, type RecoveryDependencies } from './recovery/await-recovery.ts'
import { isRecovered } from './recovery/first-recovery.ts'
import { requireTargetAhead } from './recovery/paused-recovery.ts'
import { LimitsTooLow } from './recovery/recovery-controller.ts'
import { type InstanceSpec, instancePaths, pausesAfterRecovery } from './specification.ts'

export type StartDependencies = RecoveryDependencies & LaunchDependencies

export interface RunningInstance {
  readonly postmaster: Postmaster
  /** What `startInstance` gave; undefined while it was never found usable. */
  readonly result: RecoverResult | undefined
}

/** Production may have raised its limits more than once since the backup. */
const MOST_STARTS = 8

/**
 * Starts the instance, or adopts it when it runs, and resolves when it accepts connections: promoted and writable, or
 * standing still and read-only where that was asked for. An instance that stands still is promoted or moved on to
 * another target, as asked. Repeating it gives the same result.
 * @throws HowdahError `wal_missing` | `target_unreachable` | `port_taken` | `space_low` | `library_missing` |
 * `backup_damaged` | `configuration` | `postgres_failed` | `timeout`; the signal's reason when aborted. After
 * `target_unreachable` an instance that stood still before stands where it stood
 */
export async function startInstance(spec: InstanceSpec, deps: StartDependencies): Promise<RecoverResult> {
  deps.signal?.throwIfAborted()
  const running = await findInstance(spec)
  const result = running?.result
  if (running === undefined) return startAnew(spec, deps)
  if (result === undefined) return awaitUsable(spec, await adopt(spec, running.postmaster), deps)
  if (result.paused === undefined) return result
  const { record } = await adopt(spec, running.postmaster)
  if (!pausesAfterRecovery(spec)) return promote(spec, record, deps)
  const standing = record.recoverTo ?? spec.recoverTo
  return sameTarget(standing, spec.recoverTo) ? result : advance(spec, standing, result, deps)
}

/** The session's running server, also one that another agent process started. Does not touch the mount. */
export async function findInstance(spec: InstanceSpec): Promise<RunningInstance | undefined> {
  const record = await readRecord(spec)
  const recorded = record === undefined ? undefined : await postmasterAt(record.pid, spec)
  if (record !== undefined && recorded?.startTime === record.startTime)
    return { postmaster: recorded, result: record.result }
  // An agent that died between starting the server and writing the record left none.
  const postmaster = await findPostmaster({ ...spec, uid: spec.user.uid })
  return postmaster === undefined ? undefined : { postmaster, result: undefined }
}

async function startAnew(spec: InstanceSpec, deps: StartDependencies): Promise<RecoverResult> {
  const fileSystem = deps.isolation?.support.fileSystem
  if (fileSystem?.available === false && !(await isRecovered(spec)))
    await requireNoLaterTablespace(spec, deps.signal)
  for (let starts = 1; ; starts++) {
    try {
      return await awaitUsable(spec, await launch(spec, deps), deps)
    } catch (error) {
      if (await couldNotCreateTablespace(spec, error, deps)) continue
      if (!(error instanceof LimitsTooLow) || starts >= MOST_STARTS) throw error
      deps.logger.info({ session: spec.session }, 'production raised limits; starting again with them')
      await stopInstance(spec, { logger: deps.logger, mode: 'fast' })
    }
  }
}

/**
 * Whether recovery ended at a tablespace that was created after the backup, where nothing was for it yet; it is there at
 * the next start. Each comes up once.
 */
async function couldNotCreateTablespace(
  spec: InstanceSpec,
  error: unknown,
  { isolation, logger, signal }: StartDependencies,
): Promise<boolean> {
  if (signal?.aborted || isolation?.support.fileSystem.available !== true) return false
  if (!(error instanceof HowdahError) || (await findInstance(spec)) !== undefined) return false
  const locations = await recordCreatedTablespaces(spec)
  if (locations.length === 0) return false
  logger.info(
    { session: spec.session, locations },
    'tablespaces were created after the backup; starting again with them',
  )
  return true
}

/** The record goes without its result first: an agent that dies meanwhile finds a server whose outcome is open. */
async function promote(
  spec: InstanceSpec,
  record: InstanceRecord,
  deps: StartDependencies,
): Promise<RecoverResult> {
  const open = { ...record, logOffset: (await stat(instancePaths(spec).log)).size, result: undefined }
  await writeRecord(spec, open)
  return awaitUsable(spec, { record: open, ending: () => 'ended', adopted: true }, deps)
}

async function advance(
  spec: InstanceSpec,
  standing: RecoverTo,
  { paused }: RecoverResult,
  deps: StartDependencies,
): Promise<RecoverResult> {
  const before = { ...spec, recoverTo: standing }
  await requireTargetAhead(spec, paused, deps.signal)
  const { logger } = deps
  deps.onProgress?.({ detail: 'starting again with the new target' })
  await stopInstance(before, { logger, mode: 'fast' })
  try {
    return await startAnew(spec, deps)
  } catch (error) {
    if (deps.signal?.aborted) throw error
    await stopInstance(spec, { logger, mode: 'fast' })
    await startAnew(before, deps)
    // What passes by itself is tried again.
    if (error instanceof HowdahError && error.retryable) throw error
    const { message, field } = errorBody(error)
    throw new HowdahError('target_unreachable', message, {
      cause: error,
      ...(field !== undefined && { field }),
    })
  }
}

function sameTarget(one: RecoverTo, other: RecoverTo): boolean {
  const keys = ['type', 'value', 'inclusive', 'timeline'] as const
  return keys.every((key) => one[key] === other[key])
}
