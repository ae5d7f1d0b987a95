/**
 * Waits until a recovering server is usable: promoted, or paused if that was requested. Follows its log, queries its state,
 * and passes each answer to recovery-controller.ts, which acts where recovery does not end by itself.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { isAlive } from '../../../../config/process-identity.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import type { RecoverResult } from '../../../../messages/steps.ts'
import { type Identity, queryReadiness } from '../connections/connection.ts'
import type { StartedServer } from '../process/launch.ts'
import { writeRecord } from '../process/record.ts'
import { mappedSegments } from '../process/shared-memory.ts'
import { clientHost } from '../settings/listening.ts'
import { type InstanceSpec, instancePaths, pausesAfterRecovery } from '../specification.ts'
import { enableFsync, finishFirstRecovery } from './first-recovery.ts'
import { distanceWarnings, queryReached } from './reached.ts'
import { createRecoveryController, LimitsTooLow, limitsRaised, type Usable } from './recovery-controller.ts'
import { startFailure } from './start-failure.ts'
import { type LogReader, openLog, type Phase } from './startup-log.ts'

export interface RecoveryDependencies {
  /** Makes durable what was written to the mount: a syncfs of PostgreSQL has no effect on it. */
  readonly syncMount: () => Promise<void>
  readonly logger: Logger
  readonly onProgress?: (progress: { readonly detail: string }) => void
  /** Stops waiting; the server keeps running until `stopInstance`. */
  readonly signal?: AbortSignal
  /** How long recovery may take, ms. Default 12 hours, since the amount of WAL to replay has no bound. */
  readonly timeoutMs?: number
}

/** Intervals between reads of the log, ms: short at first, as a small instance recovers quickly, then longer. */
const QUICK_PAUSE = 5
const QUICK_FOR = 3_000
const LONG_PAUSE = 50
/** Interval between queries of the server when the log shows no reason for one, ms. */
const ASK_EVERY = 2_000
const ASK_TIMEOUT = 30_000
const DEFAULT_TIMEOUT = 12 * 60 * 60 * 1000
/** Interval between queries after the server was asked to do something, ms. */
const ASK_SOON = 20

/** @throws what `startInstance` does, and `LimitsTooLow` */
export async function awaitUsable(
  spec: InstanceSpec,
  { record, ending, adopted }: StartedServer,
  deps: RecoveryDependencies,
): Promise<RecoverResult> {
  const began = performance.now()
  const deadline = began + (deps.timeoutMs ?? DEFAULT_TIMEOUT)
  const phases: Partial<Record<Phase | 'usable' | 'durable', number>> = {}
  const elapsed = () => Math.round(performance.now() - began)
  const log = await openLog(instancePaths(spec).log, record.logOffset)
  const controller = createRecoveryController(spec, record, log)
  let nextAsk = began + (adopted ? 0 : ASK_EVERY)
  let fsyncEnabledAt: number | undefined
  let login: Identity | undefined
  try {
    for (;;) {
      const alive = isAlive(record)
      for (const { detail, phase } of await log.poll()) {
        deps.onProgress?.({ detail })
        if (phase === undefined) continue
        phases[phase] ??= elapsed()
        // Recorded early, so that they can be removed if the server is killed during recovery.
        if (phase === 'redo')
          await writeRecord(spec, { ...record, segments: await mappedSegments(record.pid) })
        if (phase === 'paused') nextAsk = 0
        if (phase === 'ready') {
          nextAsk = 0
          // Before the server is queried, so that the query finds it done.
          fsyncEnabledAt ??= await enableFsync(spec, record.pid)
        }
      }
      if (!alive) {
        const raised = await limitsRaised(spec, record)
        const failure = await startFailure(spec, log, `${ending()} before the instance was usable`)
        throw raised ? new LimitsTooLow(failure) : failure
      }
      if (log.absent !== undefined && pausesAfterRecovery(spec))
        nextAsk = Math.min(nextAsk, performance.now() + ASK_SOON)
      if (performance.now() >= nextAsk) {
        const readiness = await queryReadiness(spec, ASK_TIMEOUT, login)
        if ('connectedAs' in readiness) login = readiness.connectedAs
        const usable = await controller.next(readiness)
        if (usable !== undefined) {
          phases.usable = elapsed()
          fsyncEnabledAt ??= await enableFsync(spec, record.pid)
          const { connectedAs, serverState } = usable
          const [reached] = await Promise.all([
            // The publish does not depend on it.
            queryReached(spec, connectedAs).catch(() => undefined),
            fsyncEnabledAt === undefined
              ? undefined
              : finishFirstRecovery(spec, fsyncEnabledAt, connectedAs, serverState, deps),
          ])
          const warnings = [
            ...record.warnings,
            ...controller.warnings,
            ...incompleteWarnings(log),
            ...distanceWarnings(reached),
          ]
          const result = { ...resultOf(spec, warnings, usable), ...(reached && { reached }) }
          await writeRecord(spec, { ...record, segments: await mappedSegments(record.pid), result })
          phases.durable = elapsed()
          deps.logger.info(
            { session: spec.session, postmaster: record.pid, phases },
            `PostgreSQL is ${usable.state}`,
          )
          return result
        }
        nextAsk = performance.now() + (controller.acted ? ASK_SOON : ASK_EVERY)
      }
      if (performance.now() > deadline)
        throw new HowdahError(
          'timeout',
          `PostgreSQL did not finish recovery in time; it continues. Its log is ${instancePaths(spec).log}.`,
        )
      const pause = performance.now() - began < QUICK_FOR ? QUICK_PAUSE : LONG_PAUSE
      await delay(pause, undefined, deps.signal === undefined ? {} : { signal: deps.signal }).catch(() =>
        deps.signal?.throwIfAborted(),
      )
    }
  } finally {
    await log.close()
  }
}

function incompleteWarnings({ incomplete }: LogReader): string[] {
  if (incomplete === undefined) return []
  return [
    `The archive has only a part of its last WAL segment, ${incomplete}: recovery ended before it. If production still copies it there, publish again.`,
  ]
}

function resultOf(spec: InstanceSpec, warnings: string[], usable: Usable): RecoverResult {
  const { run } = instancePaths(spec)
  const { user, role, database } = usable.connectedAs
  const { subscriptions } = usable
  if (subscriptions.length > 0)
    warnings.push(
      `Subscriptions stand still: ${subscriptions.join(', ')}. To drop one, first ALTER SUBSCRIPTION … DISABLE and SET (slot_name = NONE), or PostgreSQL drops the slot at its publisher.`,
    )
  return {
    connection: {
      host: clientHost(spec) ?? run,
      socketDirectory: run,
      port: spec.port,
      user,
      ...(role !== undefined && { role }),
      ...(database !== 'postgres' && { database }),
    },
    warnings,
    ...('at' in usable && { paused: usable.at }),
  }
}
