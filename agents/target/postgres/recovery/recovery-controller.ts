/**
 * Decides what a recovering server has to do next, and asks it to: promote, pause at the end of the archive, or restart
 * with higher limits. Owns no process and no wait; await-recovery.ts hands it each answer of the server.
 */
import { HowdahError } from '../../../../messages/errors.ts'
import { sqlState } from '../connections/client.ts'
import { controlReplay, type Readiness } from '../connections/connection.ts'
import type { InstanceRecord } from '../process/record.ts'
import { sharedMemoryShortage } from '../process/shared-memory-space.ts'
import { exceeds } from '../settings/limits.ts'
import { type InstanceSpec, instancePaths, majorVersion, pausesAfterRecovery } from '../specification.ts'
import { readControlData } from './control-data.ts'
import { requestPromotion } from './data-directory.ts'
import { isRecovered } from './first-recovery.ts'
import { endsBefore, startFailure } from './start-failure.ts'
import type { LogReader } from './startup-log.ts'

/** Production raised limits since the backup, and readers cannot be let in without: start again with these. */
export class LimitsTooLow extends HowdahError {
  constructor(cause: HowdahError) {
    super(cause.code, cause.message, { cause })
  }
}

type InRecovery = Extract<Readiness, { at: unknown }>
export type Usable = InRecovery | Extract<Readiness, { state: 'ready' }>

/** SQLSTATE (PostgreSQL documentation, appendix A). */
const NOT_IN_PREREQUISITE_STATE = '55000'
const ASK_TIMEOUT = 30_000
/** How long a standby that came to the end of its archive may take to let readers in, ms. */
const LET_IN_TIMEOUT = 30_000

export interface RecoveryController {
  /** What follows from an answer of the server; gives it back when the server is where it should be. */
  next(readiness: Readiness): Promise<Usable | undefined>
  /** Whether the server was told something. */
  readonly acted: boolean
  readonly warnings: readonly string[]
}

export function createRecoveryController(
  spec: InstanceSpec,
  record: InstanceRecord,
  log: LogReader,
): RecoveryController {
  const warnings: string[] = []
  let acted = false
  let endedAt: number | undefined

  async function promote({ connectedAs }: InRecovery): Promise<undefined> {
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
  async function atEnd(standing: InRecovery): Promise<undefined> {
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
        if (await limitsRaised(spec, record))
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
export async function limitsRaised(spec: InstanceSpec, { limits }: InstanceRecord): Promise<boolean> {
  // A data directory that cannot be read any more tells nothing; the failure at hand does.
  const control = limits && (await readControlData(spec).catch(() => undefined))
  return control !== undefined && limits !== undefined && exceeds(control.limits, limits)
}

/** Whether recovery has replayed all that was written while the backup was taken. */
async function isConsistent(spec: InstanceSpec): Promise<boolean> {
  const { state, backupEndAwaited } = await readControlData(spec)
  return state === 'in archive recovery' && !backupEndAwaited
}
