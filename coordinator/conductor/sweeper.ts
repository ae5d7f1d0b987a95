/**
 * Inspects the sessions that are not settled at a regular interval, for what no event brings about: a step without
 * reports, an agent that is offline, a retry that another coordinator scheduled, an expiry.
 */
import type { Bus } from '../../messages/bus.ts'
import type { SpaceWarning } from '../../messages/values.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import { type Clock, timestamp } from '../clock.ts'
import type { Session } from '../session.ts'
import { stepAgent } from '../step-command.ts'
import { agentAway, stepResent } from '../step-transitions.ts'
import type { Store } from '../store/store.ts'
import { timePassed } from '../transitions.ts'
import type { Announcer } from './announcer.ts'
import type { BackgroundWork } from './background-work.ts'
import type { RetryTimers } from './retry-timers.ts'
import type { SessionChanges } from './session-changes.ts'
import type { StepDispatcher } from './step-dispatcher.ts'

export interface Sweeper {
  /** Sweeps after each interval; the next interval begins when a sweep has ended. */
  start(): void
  close(): void
}

export interface SweeperOptions {
  readonly store: Store
  readonly bus: Bus
  readonly registry: AgentRegistry
  readonly changes: SessionChanges
  readonly dispatcher: StepDispatcher
  readonly retries: RetryTimers
  readonly announcer: Announcer
  readonly background: BackgroundWork
  readonly now: Clock
  readonly intervalMs: number
  /** Milliseconds without a report after which a step is sent again. */
  readonly resendAfterMs: number
}

export function createSweeper(options: SweeperOptions): Sweeper {
  const { store, bus, registry, changes, dispatcher, retries, announcer, background } = options
  const { now, intervalMs, resendAfterMs } = options
  let timer: NodeJS.Timeout | undefined
  let closed = false

  async function sweep(): Promise<void> {
    // Agents that RabbitMQ keeps from reporting are not offline; the bus logs why, and the registry asks it.
    await bus.probe().catch(() => undefined)
    await registry.refresh()
    for (const session of await store.sessions({ settled: false })) {
      if (closed) return
      if (session.expires) await checkExpiry(session.id)
      await checkStep(session)
    }
  }

  async function checkExpiry(id: string): Promise<void> {
    let raised: SpaceWarning[] = []
    await changes.change(id, (session) => {
      raised = timePassed(session, timestamp(now))
    })
    announcer.spaceWarnings(id, raised)
  }

  async function checkStep(session: Session): Promise<void> {
    const { id, current, retryAt } = session
    if (!current) {
      if (retryAt !== undefined && !retries.isScheduled(id)) await changes.reconcile(id)
      return
    }
    const agent = stepAgent(session, current.step)
    if (!registry.isOnline(agent)) {
      await changes.change(id, (latest) => agentAway(latest, agent))
    } else if (now() - Date.parse(current.heardAt) > resendAfterMs) {
      await resend(id, current.sequence)
    }
  }

  async function resend(id: string, sequence: number): Promise<void> {
    const session = await changes.change(id, (latest) => stepResent(latest, sequence, timestamp(now)))
    if (session?.current?.sequence === sequence) dispatcher.send(session)
  }

  function schedule(): void {
    timer = setTimeout(() => {
      const work = sweep().finally(() => {
        if (!closed) schedule()
      })
      background.track('a sweep', '*', work)
    }, intervalMs)
  }

  return {
    start: schedule,
    close() {
      closed = true
      clearTimeout(timer)
    },
  }
}
