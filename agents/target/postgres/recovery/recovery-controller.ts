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
import {
  hasTarget,
  type InstanceSpec,
  instancePaths,
  majorVersion,
  pausesAfterRecovery,
} from '../specification.ts'
import { readControlData } from './control-data.ts'
import { requestPromotion } from './data-directory.ts'
import { isRecovered } from './first-recovery.ts'
import { archiveTooShort, endsBefore, isConsistent } from './start-failure.ts'
import type { LogReader } from './startup-log.ts'

/** Production raised limits since the backup, which read-only connections require: the server must be restarted with them. */
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
/** How long a standby at the end of its archive may take to accept read-only connections, ms. */
const ACCEPT_TIMEOUT = 30_000

export interface RecoveryController {
  /** Handles an answer of the server. @returns the answer if the server is usable. @throws why it never will be */
  next(readiness: Readiness): Promise<Usable | undefined>
  /** Whether the server was asked to promote or to pause. */
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

  /** Only a standby waits; another server requests a segment again to read its last record, and ends its recovery. */
  const waitsAtEnd = (): boolean => pausesAfterRecovery(spec) && log.archiveEnded

  async function promote({ connectedAs }: InRecovery): Promise<undefined> {
    if (!acted) await requestPromotion(spec, record.pid)
    acted = true
    // Since version 13 a paused recovery handles the request; before, only after it is resumed.
    if (majorVersion(spec.version) >= 13) return
    await controlReplay(spec, connectedAs, 'resume', ASK_TIMEOUT).catch((error: unknown) => {
      // Replay was not paused any more, and the server is promoted.
      if (sqlState(error) !== NOT_IN_PREREQUISITE_STATE) throw error
    })
  }

  /** At the end of the archive a standby would wait for more WAL without end. */
  async function atEnd(readiness: InRecovery): Promise<undefined> {
    if (!pausesAfterRecovery(spec)) return promote(readiness)
    if (acted) return
    if (hasTarget(spec)) {
      const { lsn, lastCommit } = readiness.at
      const reached = { lsn, ...(lastCommit !== undefined && { time: lastCommit }) }
      const ends = endsBefore(spec, reached, log.lastRestored)
      if (!(await isRecovered(spec)))
        throw new HowdahError('target_unreachable', ends, { field: 'recoverTo' })
      // Replay cannot be undone.
      warnings.push(`${ends} Recovery is paused at the end of the archive.`)
    }
    await controlReplay(spec, readiness.connectedAs, 'pause', ASK_TIMEOUT)
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
            'PostgreSQL accepted no read-only connections before it was promoted, so it did not pause: the instance is writable.',
          )
        return readiness
      case 'paused':
        // It is paused because of a limit, and not at its target.
        if (await limitsRaised(spec, record))
          throw new LimitsTooLow(
            new HowdahError('postgres_failed', 'Production raised limits since the backup.'),
          )
        return pausesAfterRecovery(spec) ? readiness : promote(readiness)
      case 'recovering':
        return readiness.waitsForWal || waitsAtEnd() || acted ? atEnd(readiness) : undefined
      case 'starting':
        if (waitsAtEnd()) await requireAccepting()
        return undefined
      default:
        return readiness satisfies never
    }
  }

  /** Read-only connections are accepted only once recovery is consistent. */
  async function requireAccepting(): Promise<void> {
    if (!isConsistent(await readControlData(spec))) throw archiveTooShort(spec, log)
    endedAt ??= performance.now()
    if (performance.now() - endedAt > ACCEPT_TIMEOUT)
      throw new HowdahError(
        'postgres_failed',
        `PostgreSQL accepts no read-only connections at the end of the archive: transactions with many subtransactions were open. Publish without a pause. Its log is ${instancePaths(spec).log}.`,
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

/** Whether production raised limits since the backup: replay writes them to pg_control at once. */
export async function limitsRaised(spec: InstanceSpec, { limits }: InstanceRecord): Promise<boolean> {
  // If the data directory cannot be read any more, the failure at hand is the cause to report.
  const control = limits && (await readControlData(spec).catch(() => undefined))
  return control !== undefined && limits !== undefined && exceeds(control.limits, limits)
}
