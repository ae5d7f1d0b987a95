/**
 * The lifecycle of a published instance's server: starts it and waits until it is usable, finds it again, promotes it, and
 * advances a paused recovery. Owns the server process, its record and its configuration directory. It never unmounts and
 * never starts a mount.
 *
 * The server runs detached and outlives the agent. Its state is on this machine: the process, and a record beside the
 * configuration, in a directory that only the agent may write to. A finished start is never repeated.
 *
 * A start passes through process/launch.ts (settings/prepare.ts writes the configuration, recovery/data-directory.ts
 * prepares the data directory, isolation/ sets up the isolation) to recovery/await-recovery.ts, which reads the log and
 * queries the server through connections/ until it is usable.
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
import { requireFreePort } from './recovery/start-failure.ts'
import { type InstanceSpec, instancePaths, pausesAfterRecovery } from './specification.ts'

export type StartDependencies = RecoveryDependencies & LaunchDependencies

export interface RunningInstance {
  readonly postmaster: Postmaster
  /** The result of `startInstance`; undefined while the server has not been usable. */
  readonly result: RecoverResult | undefined
}

/** Starts in sequence, each with higher limits: production may have raised them more than once since the backup. */
const MOST_STARTS = 8

/**
 * Starts the instance, or adopts it if it is running, and resolves when it accepts connections: promoted and writable, or
 * paused and read-only as requested. A paused instance is promoted, or advanced to another target, as requested.
 * Idempotent.
 * @throws HowdahError `wal_missing` | `target_unreachable` | `port_taken` | `space_low` | `library_missing` |
 * `backup_damaged` | `configuration` | `postgres_failed` | `timeout`; the signal's reason when aborted. After
 * `target_unreachable` an instance that was paused is paused where it was
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
  const current = record.recoverTo ?? spec.recoverTo
  return sameTarget(current, spec.recoverTo) ? result : advance(spec, current, result, deps)
}

/** The session's running server, also where another agent process started it. Does not touch the mount. */
export async function findInstance(spec: InstanceSpec): Promise<RunningInstance | undefined> {
  const record = await readRecord(spec)
  const recorded = record === undefined ? undefined : await postmasterAt(record.pid, spec)
  if (record !== undefined && recorded?.startTime === record.startTime)
    return { postmaster: recorded, result: record.result }
  // An agent that was killed between starting the server and writing the record left none.
  const postmaster = await findPostmaster({ ...spec, uid: spec.user.uid })
  return postmaster === undefined ? undefined : { postmaster, result: undefined }
}

async function startAnew(spec: InstanceSpec, deps: StartDependencies): Promise<RecoverResult> {
  const fileSystem = deps.isolation?.support.fileSystem
  if (fileSystem?.available === false && !(await isRecovered(spec)))
    await requireNoLaterTablespace(spec, deps.signal)
  for (let starts = 1; ; starts++) {
    await requireFreePort(spec)
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
 * Whether recovery ended because a tablespace that was created after the backup had no directory yet. The next start
 * creates it. Occurs once for each tablespace.
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

/** First removes the result from the record: if the agent is killed meanwhile, the next one awaits the outcome. */
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
  current: RecoverTo,
  { paused }: RecoverResult,
  deps: StartDependencies,
): Promise<RecoverResult> {
  const before = { ...spec, recoverTo: current }
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
    // A transient error keeps its code, so that the step is retried.
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
