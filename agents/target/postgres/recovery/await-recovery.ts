/**
 * Waits until a server that recovers is usable: promoted, or standing still where that was asked for. Reads its log and
 * asks it, and tells it what to do where the recovery does not end by itself.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { isAlive } from '../../../../config/process-identity.ts'
import { HowdahError } from '../../../../messages/errors.ts'
import type { RecoverResult } from '../../../../messages/steps.ts'
import { sqlState } from '../connections/client.ts'
import { controlReplay, type Identity, queryReadiness, type Readiness } from '../connections/connection.ts'
import type { Watched } from '../process/launch.ts'
import { type InstanceRecord, writeRecord } from '../process/record.ts'
import { mappedSegments } from '../process/shared-memory.ts'
import { sharedMemoryShortage } from '../process/shared-memory-space.ts'
import { exceeds } from '../settings/limits.ts'
import { clientHost } from '../settings/listening.ts'
import { type InstanceSpec, instancePaths, majorVersion, pausesAfterRecovery } from '../specification.ts'
import { readControlData } from './control-data.ts'
import { requestPromotion } from './data-directory.ts'
import { enableFsync, finishFirstRecovery, isRecovered } from './first-recovery.ts'
import { distanceWarnings, queryReached } from './reached.ts'
import { endsBefore, startFailure } from './start-failure.ts'
import { type LogReader, openLog, type Phase } from './startup-log.ts'

export interface RecoveryDependencies {
  /** Makes durable what was written to the mount: PostgreSQL's own syncing of a file system does not reach it. */
  readonly syncMount: () => Promise<void>
  readonly logger: Logger
  readonly onProgress?: (progress: { readonly detail: string }) => void
  /** Stops waiting; the server goes on until `stopInstance`. */
  readonly signal?: AbortSignal
  /** How long recovery may take, ms. Default 12 hours: replaying WAL takes what it takes. */
  readonly timeoutMs?: number
}

/** Production raised limits since the backup, and readers cannot be let in without: start again with these. */
export class LimitsTooLow extends HowdahError {
  constructor(cause: HowdahError) {
    super(cause.code, cause.message, { cause })
  }
}

type Standing = Extract<Readiness, { at: unknown }>
type Usable = Standing | Extract<Readiness, { state: 'ready' }>

/** SQLSTATE (PostgreSQL documentation, appendix A). */
const NOT_IN_PREREQUISITE_STATE = '55000'
/** Pauses between looks at the log, ms: short while a small instance would be through, then longer. */
const QUICK_PAUSE = 5
const QUICK_FOR = 3_000
const LONG_PAUSE = 50
/** Without a hint from the log, the server is asked this often, ms. */
const ASK_EVERY = 2_000
const ASK_TIMEOUT = 30_000
/** How long a standby that came to the end of its archive may take to let readers in, ms. */
const LET_IN_TIMEOUT = 30_000
const DEFAULT_TIMEOUT = 12 * 60 * 60 * 1000
/** After a server was told to do something, it is asked this often whether it did, ms. */
const ASK_SOON = 20

/** @throws what `startInstance` does, and `LimitsTooLow` */
export async function awaitUsable(
  spec: InstanceSpec,
  { record, ending, adopted }: Watched,
  deps: RecoveryDependencies,
): Promise<RecoverResult> {
  const began = performance.now()
  const deadline = began + (deps.timeoutMs ?? DEFAULT_TIMEOUT)
  const phases: Partial<Record<Phase | 'usable' | 'durable', number>> = {}
  const elapsed = () => Math.round(performance.now() - began)
  const log = await openLog(instancePaths(spec).log, record.logOffset)
  const guide = createRecoveryController(spec, record, log)
  let nextAsk = began + (adopted ? 0 : ASK_EVERY)
  let told: number | undefined
  let entered: Identity | undefined
  try {
    for (;;) {
      const alive = isAlive(record)
      for (const { detail, phase } of await log.poll()) {
        deps.onProgress?.({ detail })
        if (phase === undefined) continue
        phases[phase] ??= elapsed()
        // Noted early, so that they can be removed if the server is killed in the middle of recovery.
        if (phase === 'redo')
          await writeRecord(spec, { ...record, segments: await mappedSegments(record.pid) })
        if (phase === 'paused') nextAsk = 0
        if (phase === 'ready') {
          nextAsk = 0
          // Before it is asked, so that whoever asks finds it done.
          told ??= await enableFsync(spec, record.pid)
        }
      }
      if (!alive) {
        const raised = await isRaised(spec, record)
        const failure = await startFailure(spec, log, `${ending()} before the instance was usable`)
        throw raised ? new LimitsTooLow(failure) : failure
      }
      if (log.archiveEnded) nextAsk = Math.min(nextAsk, performance.now() + ASK_SOON)
      if (performance.now() >= nextAsk) {
        const readiness = await queryReadiness(spec, ASK_TIMEOUT, entered)
        if ('connectedAs' in readiness) entered = readiness.connectedAs
        const usable = await guide.next(readiness)
        if (usable !== undefined) {
          phases.usable = elapsed()
          told ??= await enableFsync(spec, record.pid)
          const { connectedAs, moment } = usable
          const [reached] = await Promise.all([
            // The publish does not depend on it.
            queryReached(spec, connectedAs).catch(() => undefined),
            told === undefined ? undefined : finishFirstRecovery(spec, told, connectedAs, moment, deps),
          ])
          const warnings = [
            ...record.warnings,
            ...guide.warnings,
            ...incompleteWarnings(log),
            ...distanceWarnings(reached),
          ]
          const result = { ...resultOf(spec, warnings, usable), ...(reached && { reached }) }
          await writeRecord(spec, { ...record, segments: await mappedSegments(record.pid), result })
          phases.durable = elapsed()
          deps.logger.info(
            { session: spec.session, pid: record.pid, phases },
            `PostgreSQL is ${usable.state}`,
          )
          return result
        }
        nextAsk = performance.now() + (guide.acted ? ASK_SOON : ASK_EVERY)
      }
      if (performance.now() > deadline)
        throw new HowdahError(
          'timeout',
          `PostgreSQL did not finish recovery in time; it goes on. Its log is ${instancePaths(spec).log}.`,
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

interface Guide {
  /** What follows from an answer of the server; gives it back when the server is where it should be. */
  next(readiness: Readiness): Promise<Usable | undefined>
  /** Whether the server was told something. */
  readonly acted: boolean
  readonly warnings: readonly string[]
}

function createRecoveryController(spec: InstanceSpec, record: InstanceRecord, log: LogReader): Guide {
  const warnings: string[] = []
  let acted = false
  let endedAt: number | undefined

  async function promote({ connectedAs }: Standing): Promise<undefined> {
    if (!acted) await requestPromotion(spec, record.pid)
    acted = true
    // A recovery that stands still heeds the request from version 13 on; before, only when it goes on.
    if (majorVersion(spec.version) >= 13) return
    await controlReplay(spec, connectedAs, 'resume', ASK_TIMEOUT).catch((error: unknown) => {
      // It was not standing any more, and is promoted.
      if (sqlState(error) !== NOT_IN_PREREQUISITE_STATE) throw error
    })
  }

  /** The archive has no more, and the server, which is a standby, would wait for ever. */
  async function atEnd(standing: Standing): Promise<undefined> {
    if (!pausesAfterRecovery(spec)) return promote(standing)
    if (acted) return
    const { type } = spec.recoverTo
    if (type !== 'latest' && type !== 'immediate') {
      const { lsn, lastCommit } = standing.at
      const reached = { lsn, ...(lastCommit !== undefined && { time: lastCommit }) }
      const ends = endsBefore(spec, reached, log.lastRestored)
      if (!(await isRecovered(spec)))
        throw new HowdahError('target_unreachable', ends, { field: 'recoverTo' })
      // What was replayed cannot be taken back.
      warnings.push(`${ends} Recovery is paused at the end of the archive.`)
    }
    await controlReplay(spec, standing.connectedAs, 'pause', ASK_TIMEOUT)
    acted = true
  }

  async function next(readiness: Readiness): Promise<Usable | undefined> {
    switch (readiness.state) {
      case 'refused': {
        const { reason } = readiness
        const shortage = await sharedMemoryShortage()
        if (shortage === undefined) throw new HowdahError('postgres_failed', reason)
        throw new HowdahError('shared_memory_low', `${shortage} ${reason}`)
      }
      case 'ready':
        if (pausesAfterRecovery(spec))
          warnings.push(
            'PostgreSQL could not let readers in before it was promoted, and so did not pause: the instance is writable.',
          )
        return readiness
      case 'paused':
        // It stands still because of a limit, and not at its target.
        if (await isRaised(spec, record))
          throw new LimitsTooLow(
            new HowdahError('postgres_failed', 'Production raised limits since the backup.'),
          )
        return pausesAfterRecovery(spec) ? readiness : promote(readiness)
      case 'recovering':
        return log.archiveEnded || acted ? atEnd(readiness) : undefined
      case 'starting':
        if (log.archiveEnded) await requireLetIn()
        return undefined
      default:
        return readiness satisfies never
    }
  }

  /** Without an end that is consistent nobody is ever let in. */
  async function requireLetIn(): Promise<void> {
    if (!(await isConsistent(spec)))
      throw await startFailure(spec, log, 'came to the end of the archive before the backup was consistent')
    endedAt ??= performance.now()
    if (performance.now() - endedAt > LET_IN_TIMEOUT)
      throw new HowdahError(
        'postgres_failed',
        `PostgreSQL does not let readers in at the end of the archive: transactions with many subtransactions were open. Publish without a pause. Its log is ${instancePaths(spec).log}.`,
      )
  }

  return {
    next,
    get acted() {
      return acted
    },
    warnings,
  }
}

/** Whether production raised limits since the backup: what is replayed of that stands in pg_control at once. */
async function isRaised(spec: InstanceSpec, { limits }: InstanceRecord): Promise<boolean> {
  // A data directory that cannot be read any more tells nothing; the failure at hand does.
  const control = limits && (await readControlData(spec).catch(() => undefined))
  return control !== undefined && limits !== undefined && exceeds(control.limits, limits)
}

/** Whether recovery has replayed all that was written while the backup was taken. */
async function isConsistent(spec: InstanceSpec): Promise<boolean> {
  const { state, backupEndAwaited } = await readControlData(spec)
  return state === 'in archive recovery' && !backupEndAwaited
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
