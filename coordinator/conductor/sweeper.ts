/**
 * Takes up, at a regular interval, what no event brings about: a step without reports, an agent that went away or came
 * back, a retry, an expiry. The store says which sessions are due; no other is read. The first sweep after a start also
 * sends again every step that is at an agent, since the coordinator may have ended between saving and sending it.
 */
import type { Bus } from '../../messages/bus.ts'
import { isUnavailable } from '../../messages/unavailable.ts'
import type { AgentRegistry } from '../agent-registry.ts'
import { type Clock, timestamp } from '../clock.ts'
import { agentKey, RESEND_AFTER_MS, saysAgentAway } from '../due.ts'
import type { Session } from '../session.ts'
import { obstacleOf } from '../step-command.ts'
import { agentAway, stepResent } from '../step-transitions.ts'
import type { Store } from '../store/store.ts'
import { timePassed } from '../transitions.ts'
import type { BackgroundWork } from './background-work.ts'
import type { RevocationSender } from './revocations.ts'
import type { SessionChanges } from './session-changes.ts'
import type { StepDispatcher } from './step-dispatcher.ts'

export interface Sweeper {
  /** Sweeps at once and after each interval; the next interval begins when a sweep has ended. */
  start(): void
  /** Until the next start. A sweep in progress takes up no further session. */
  stop(): void
}

/** From a start to the next stop. */
interface Run {
  stopped: boolean
  /** Whether the steps that are at an agent were sent again. */
  resumed: boolean
  timer?: NodeJS.Timeout
}

export interface SweeperOptions {
  readonly store: Store
  readonly bus: Bus
  readonly registry: AgentRegistry
  readonly changes: SessionChanges
  readonly dispatcher: StepDispatcher
  readonly revocations: Pick<RevocationSender, 'finish'>
  readonly background: BackgroundWork
  readonly now: Clock
  readonly intervalMs: number
}

/** Sessions that are taken up at the same time: the others wait for one change each, not for a queue of them. */
const AT_ONCE = 8

export function createSweeper(options: SweeperOptions): Sweeper {
  const { store, bus, registry, changes, dispatcher, revocations, background, now, intervalMs } = options
  let current: Run = { stopped: true, resumed: false }

  async function sweep(run: Run): Promise<void> {
    const each = (what: string, ids: readonly string[], work: (id: string) => Promise<unknown>) =>
      takeEach(run, what, ids, work)

    // Agents that RabbitMQ keeps from reporting are not offline; the bus logs why, and the registry asks it.
    await bus.probe().catch(() => undefined)
    revocations.finish()
    if (!run.resumed) {
      await registry.refresh()
      await each('resuming a session', await store.sessionsWithStep(), resume)
      run.resumed = true
    }
    const agents = registry.list()
    const online = agents.filter((agent) => registry.obstacle(agent) === undefined).map(agentKey)
    await each('marking a session', await store.sessionsLeftBy(online), markAgentAway)
    const incompatible = agents.filter((agent) => registry.obstacle(agent)?.code === 'agent_incompatible')
    const waiting = await store.sessionsReturnedTo(incompatible.map(agentKey))
    await each('marking a session', waiting, markAgentAway)
    await each('resuming a session', await store.sessionsReturnedTo(online), resend)
    await each('taking up a session', await store.dueSessions(now()), takeUp)
  }

  /** One session that cannot be taken up keeps no other from it; a store that is away keeps all until the next sweep. */
  async function takeEach(
    run: Run,
    what: string,
    ids: readonly string[],
    work: (id: string) => Promise<unknown>,
  ): Promise<void> {
    const waiting = ids.values()
    const lane = async (): Promise<void> => {
      for (const id of waiting) {
        if (run.stopped) return
        const taken = work(id)
        background.track(what, id, taken)
        const failure = await taken.catch((error: unknown) => error)
        if (isUnavailable(failure)) return
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, lane))
  }

  async function resume(id: string): Promise<void> {
    const session = await changes.reconcile(id)
    if (session) await dispatcher.send(session)
  }

  const markAgentAway = (id: string): Promise<unknown> =>
    changes.change(id, (session) => agentAway(session, obstacleOf(session, registry)))

  const resend = (id: string): Promise<void> =>
    sendAgain(id, (session) => saysAgentAway(session) && obstacleOf(session, registry) === undefined)

  /** What its time brings, and its step again when that is overdue. */
  const takeUp = (id: string): Promise<void> =>
    sendAgain(id, (session) => {
      timePassed(session, timestamp(now))
      return !saysAgentAway(session) && isOverdue(session)
    })

  async function sendAgain(id: string, isDue: (session: Session) => boolean): Promise<void> {
    let sequence: number | undefined
    const session = await changes.change(id, (latest) => {
      sequence = isDue(latest) ? latest.current?.sequence : undefined
      if (sequence !== undefined) stepResent(latest, timestamp(now))
    })
    if (session && sequence !== undefined && session.current?.sequence === sequence) {
      await dispatcher.send(session)
    }
  }

  function isOverdue({ current }: Session): boolean {
    return current !== undefined && now() - Date.parse(current.heardAt) >= RESEND_AFTER_MS
  }

  function next(run: Run): void {
    const work = sweep(run).finally(() => {
      if (!run.stopped) run.timer = setTimeout(next, intervalMs, run)
    })
    background.track('a sweep', '*', work)
  }

  function stop(): void {
    current.stopped = true
    clearTimeout(current.timer)
  }

  return {
    start() {
      stop()
      current = { stopped: false, resumed: false }
      next(current)
    },
    stop,
  }
}
