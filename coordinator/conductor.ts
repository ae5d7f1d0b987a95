/**
 * Drives sessions: applies commands and events to them, and sends the steps that follow to the agents.
 *
 * Puts the parts of `conductor/` together and owns their start and shutdown. What a change means is not decided here
 * but in the pure functions of requests.ts, transitions.ts, step-transitions.ts and planner.ts.
 */
import type { Logger } from 'pino'
import type { Bus, Outcome, ReportDelivery } from '../messages/bus.ts'
import type { ErrorBody } from '../messages/errors.ts'
import { atMost } from '../messages/wait.ts'
import type { AgentRegistry } from './agent-registry.ts'
import type { Clock } from './clock.ts'
import { createAgentReports } from './conductor/agent-reports.ts'
import { createBackgroundWork } from './conductor/background-work.ts'
import { createOutbox } from './conductor/outbox.ts'
import { createReportRelay } from './conductor/report-relay.ts'
import { createRetryTimers } from './conductor/retry-timers.ts'
import { createRevocationSender } from './conductor/revocations.ts'
import { createSessionChanges, type SessionChanges } from './conductor/session-changes.ts'
import { createStepDispatcher } from './conductor/step-dispatcher.ts'
import { createSweeper } from './conductor/sweeper.ts'
import type { Enrolments } from './enrolments.ts'
import { createLocks } from './locks.ts'
import type { SessionObserver } from './metrics/session-metrics.ts'
import type { RetryPolicy } from './retry-policy.ts'
import type { Session } from './session.ts'
import { obstacleOf } from './step-command.ts'
import { agentAway, stepFailed } from './step-transitions.ts'
import type { Store } from './store/store.ts'

export interface Conductor extends Pick<SessionChanges, 'add' | 'change' | 'execute'> {
  /** Resumes, in the background, every session that is not settled, and sweeps from then on. */
  start(): void
  /** Until the next start begins nothing by itself; another coordinator does. */
  pause(): void
  /** Tells all mount agents whose certificates are revoked. */
  announceRevocations(): void
  /** What an agent reports: about a session, or its heartbeat. */
  onReport(delivery: ReportDelivery): Promise<Outcome>
  /** What waits to be done by itself. */
  readonly backlog: Backlog
  /** Stops timers and waits for work in progress, within a deadline: what was not sent by then, the next start sends. */
  close(): Promise<void>
}

export interface Backlog {
  /** As `Outbox.waiting` and `waitingSince`. */
  readonly announcements: number
  readonly announcedSince: number | undefined
  /** Failed steps that are tried again. */
  readonly retries: number
}

export interface ConductorOptions {
  readonly store: Store
  readonly bus: Bus
  readonly registry: AgentRegistry
  readonly enrolments: Enrolments
  readonly retry: RetryPolicy
  readonly logger: Logger
  readonly now: Clock
  readonly random: () => number
  /** As `SessionChangesOptions.observe`. */
  readonly observe?: SessionObserver
  /** Milliseconds between two sweeps over the sessions. */
  readonly sweepMs?: number
}

const CLOSE_DEADLINE_MS = 4_000

export function createConductor(options: ConductorOptions): Conductor {
  const { store, bus, registry, enrolments, retry, logger, now, random, observe } = options
  const { sweepMs: intervalMs = 5_000 } = options
  const locks = createLocks()
  const background = createBackgroundWork(logger)
  const outbox = createOutbox({ store, bus, logger, background })
  const dispatcher = createStepDispatcher({
    ...{ bus, background, registry, logger },
    onObstacle: ({ id }) => changes.change(id, (latest) => agentAway(latest, obstacleOf(latest, registry))),
    onUnsendable: failStep,
  })
  let paused = false
  const retries = createRetryTimers({
    now,
    onDue(id) {
      if (!paused) background.track('a retry', id, changes.reconcile(id))
    },
  })
  const changes = createSessionChanges({ store, locks, outbox, dispatcher, retries, observe, now })
  const relay = createReportRelay({ store, bus, background })
  const revocations = createRevocationSender({ bus, registry, enrolments, background })
  const onReport = createAgentReports({
    ...{ bus, registry, enrolments, revocations, changes, relay, retry, now, random },
  })
  const sweeper = createSweeper({
    ...{ store, bus, registry, changes, dispatcher, revocations, background, now, intervalMs },
  })

  /** Fails the current step of a session, as its agent would. */
  async function failStep({ id, current }: Session, error: ErrorBody): Promise<void> {
    if (!current) return
    const { step, direction, sequence } = current
    const failed = { session: id, step, direction, sequence, error }
    await changes.change(id, (latest) => stepFailed(latest, failed, retry, now(), random))
  }

  return {
    start() {
      paused = false
      outbox.start()
      sweeper.start()
    },
    pause() {
      paused = true
      outbox.pause()
      sweeper.stop()
    },
    add: changes.add,
    change: changes.change,
    execute: changes.execute,
    announceRevocations: revocations.announce,
    onReport,
    get backlog() {
      return {
        announcements: outbox.waiting,
        announcedSince: outbox.waitingSince,
        retries: retries.count,
      }
    },
    async close() {
      dispatcher.close()
      sweeper.stop()
      outbox.close()
      retries.close()
      await atMost(CLOSE_DEADLINE_MS, Promise.all([background.settled(), locks.settled()]))
    },
  }
}
