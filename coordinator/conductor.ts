/**
 * Moves sessions on: takes what happened, saves the session, and tells the next agent what to do.
 *
 * The order is always save, then send. A crash in between loses nothing: the saved session says what was to be sent,
 * and it is sent again at the next start; agents do a repeated step once.
 */
import type { Logger } from 'pino'
import type { Bus, EventDelivery, Outcome } from '../messages/bus.ts'
import type { EventBody } from '../messages/definitions.ts'
import { HowdahError } from '../messages/errors.ts'
import type { SpaceWarning, Usage } from '../messages/values.ts'
import { atMost } from '../messages/wait.ts'
import type { AgentRegistry } from './agent-registry.ts'
import { historyOf } from './history.ts'
import { plan, stateOf } from './planner.ts'
import { beginNext } from './requests.ts'
import type { Session } from './session.ts'
import { stepAgent, stepInput } from './step-command.ts'
import type { Answer, Store } from './store/store.ts'
import * as transitions from './transitions.ts'

export interface Conductor {
  /** Takes up every session that is not settled. Call before consuming. */
  start(): Promise<void>
  /** Saves a new session with the answer to its command and begins it. False: that command made one before. */
  begin(session: Session, answer: Answer): Promise<boolean>
  /**
   * Changes a session and does what follows. `command`: what somebody asked for, in words, for its history. Undefined:
   * there is no such session. What `mutate` throws is thrown, and nothing is changed.
   */
  change(id: string, mutate: (session: Session) => void, command?: string): Promise<Session | undefined>
  /** An event of `howdah.coordinator.events`. */
  onEvent(delivery: EventDelivery): Promise<Outcome>
  /** Stops timers and waits for what is under way, within a deadline: what was not sent then, the next start sends. */
  close(): Promise<void>
}

export interface ConductorOptions {
  readonly store: Store
  readonly bus: Bus
  readonly registry: AgentRegistry
  readonly retry: transitions.RetryPolicy
  readonly logger: Logger
  readonly now: () => number
  readonly random: () => number
  /** Milliseconds between two sweeps over the sessions for what got stuck. */
  readonly sweepMs?: number
  /** Milliseconds after which a step that nobody reported on is sent again. */
  readonly resendAfterMs?: number
}

const CLOSE_DEADLINE_MS = 4_000

export function createConductor(options: ConductorOptions): Conductor {
  const { store, bus, registry, logger, now, random, sweepMs = 5_000, resendAfterMs = 20_000 } = options
  const locks = new Map<string, Promise<unknown>>()
  const background = new Set<Promise<unknown>>()
  const retryTimers = new Map<string, NodeJS.Timeout>()
  let sweeper: NodeJS.Timeout | undefined
  let closed = false

  const isoNow = (): string => new Date(now()).toISOString()

  /** One change of a session at a time, in the order of the calls. */
  async function exclusive<T>(id: string, work: () => Promise<T>): Promise<T> {
    const previous = locks.get(id) ?? Promise.resolve()
    const run = previous.then(work, work)
    const settled = run.catch(() => undefined)
    locks.set(id, settled)
    try {
      return await run
    } finally {
      if (locks.get(id) === settled) locks.delete(id)
    }
  }

  /** Work that a handler does not wait for; `close` does. */
  function inBackground(what: string, session: string, work: Promise<unknown>): void {
    const tracked = work.catch((error: unknown) => logger.warn({ err: error, session }, `${what} failed`))
    background.add(tracked)
    void tracked.finally(() => background.delete(tracked))
  }

  function change(
    id: string,
    mutate: (session: Session) => void,
    command?: string,
  ): Promise<Session | undefined> {
    return exclusive(id, async () => {
      for (;;) {
        const session = await store.session(id)
        if (!session) return undefined
        const before = JSON.stringify(session)
        const previous = session.state
        mutate(session)
        beginNext(session)
        const next = plan(session, now())
        if (next.action === 'send') transitions.beginStep(session, next.step, next.direction, isoNow())
        session.state = stateOf(session)
        if (JSON.stringify(session) !== before) {
          session.updatedAt = isoNow()
          const earlier = JSON.parse(before) as Session
          const history = historyOf(earlier, session, session.updatedAt, command)
          session.historyLength = (session.historyLength ?? 0) + history.length
          if (!(await store.saveSession(session, history))) continue
          tellWarnings(earlier, session)
        }
        if (session.state !== previous) announce(session, previous)
        if (next.action === 'send') send(session)
        if (next.action === 'await-retry') scheduleRetry(session)
        return session
      }
    })
  }

  function send(session: Session): void {
    const { current } = session
    if (!current || closed) return
    const { step, direction, sequence } = current
    const sending = bus.sendToAgent(
      stepAgent(session, step),
      direction === 'run' ? 'step.run' : 'step.undo',
      { session: session.id, step, sequence, input: stepInput(session) },
      { messageId: `${session.id}.${sequence}` },
    )
    inBackground(`sending ${direction} of ${step}`, session.id, sending)
  }

  function announce(session: Session, previous: Session['state'] | undefined): void {
    const error = session.failure ?? session.error
    logger.info(
      { session: session.id, state: session.state, previous, error: error?.message },
      'session state',
    )
    const event = {
      session: session.id,
      state: session.state,
      ...(previous && { previous }),
      ...(error && { error, reason: error.message }),
    }
    inBackground('announcing a state', session.id, bus.emit('session.state', event))
  }

  /** Whatever added a warning to a session, whoever watches is told of it. */
  function tellWarnings(earlier: Session, { id, warnings, updatedAt }: Session): void {
    for (const message of warnings.filter((warning) => !earlier.warnings.includes(warning))) {
      const event = { session: id, about: 'publish', level: 'note', message, at: updatedAt } as const
      inBackground('announcing a warning', id, bus.emit('session.warning', event))
    }
  }

  async function usageReported({ session: id, usage }: EventBody<'session.usage'>): Promise<void> {
    let raised: SpaceWarning[] = []
    await change(id, (session) => {
      raised = transitions.usageReported(session, usage, isoNow())
    })
    warn(id, raised, { usage })
  }

  function warn(id: string, raised: readonly SpaceWarning[], more: { usage?: Usage } = {}): void {
    for (const warning of raised) {
      const { about, level, message } = warning
      logger[level === 'cleared' ? 'info' : 'warn']({ session: id, about, level }, message)
      const event = { session: id, ...warning, ...more }
      inBackground('announcing a warning', id, bus.emit('session.warning', event))
    }
  }

  async function letTimePass(id: string): Promise<void> {
    let raised: SpaceWarning[] = []
    await change(id, (session) => {
      raised = transitions.timePassed(session, isoNow())
    })
    warn(id, raised)
  }

  function scheduleRetry(session: Session): void {
    if (session.retryAt === undefined || closed) return
    clearTimeout(retryTimers.get(session.id))
    const timer = setTimeout(
      () => {
        retryTimers.delete(session.id)
        inBackground(
          'a retry',
          session.id,
          change(session.id, () => undefined),
        )
      },
      Math.max(0, Date.parse(session.retryAt) - now()),
    )
    retryTimers.set(session.id, timer)
  }

  /** Sends again what nobody reported on, and marks sessions whose agent is away. */
  async function sweep(): Promise<void> {
    // Agents that RabbitMQ keeps from reporting are not away; the bus logs why, and the registry asks it.
    await bus.probe().catch(() => undefined)
    await registry.refresh()
    for (const session of await store.sessions({ settled: false })) {
      if (closed) return
      const { id, current } = session
      if (session.expires) await letTimePass(id)
      if (!current) {
        if (session.retryAt !== undefined && !retryTimers.has(id)) await change(id, () => undefined)
        continue
      }
      const agent = stepAgent(session, current.step)
      if (!registry.isOnline(agent)) {
        await change(id, (latest) => transitions.agentAway(latest, agent))
      } else if (now() - Date.parse(current.heardAt) > resendAfterMs) {
        await resend(id, current.sequence)
      }
    }
  }

  async function resend(id: string, sequence: number): Promise<void> {
    const session = await change(id, (latest) => transitions.currentRenewed(latest, sequence, isoNow()))
    if (session?.current?.sequence === sequence) send(session)
  }

  function scheduleSweep(): void {
    sweeper = setTimeout(() => {
      const work = sweep().finally(() => {
        if (!closed) scheduleSweep()
      })
      inBackground('a sweep', '*', work)
    }, sweepMs)
  }

  async function applyEvent(delivery: EventDelivery): Promise<void> {
    const { type, body } = delivery
    switch (type) {
      case 'session.step-started':
      case 'session.step-progress':
        await change(body.session, (session) => transitions.stepReported(session, body, isoNow()))
        return
      case 'session.step-done':
        await change(body.session, (session) => transitions.stepDone(session, body, isoNow()))
        return
      case 'session.step-failed':
        await change(body.session, (session) =>
          transitions.stepFailed(session, body, options.retry, now(), random),
        )
        return
      case 'session.usage':
        await usageReported(body)
        return
      case 'session.lost':
        await change(body.session, (session) => transitions.partLost(session, body, options.retry))
        return
      case 'session.changes':
        await change(body.session, (session) => {
          session.changes = body.changes
        })
        return
      case 'session.findings':
        await change(body.session, (session) => transitions.addWarnings(session, body.warnings))
        return
      case 'session.reachability':
        await change(body.session, (session) => transitions.reachabilityReported(session, body))
        return
      case 'agent.online':
        await registry.online(body)
        return
      case 'agent.offline':
        await registry.offline(body.kind, body.name)
        return
      case 'session.state':
      case 'session.warning':
      case 'repository.damage':
        // Our own, and what is of no session; the queue is not bound to them.
        return
      default:
        delivery satisfies never
    }
  }

  return {
    async start() {
      for (const session of await store.sessions({ settled: false })) {
        const changed = await change(session.id, () => undefined)
        if (changed?.current) send(changed)
      }
      scheduleSweep()
    },

    async begin(session, answer) {
      const command = `publish ${session.request.instance} of ${session.request.repository}`
      const history = historyOf(undefined, session, isoNow(), command)
      session.historyLength = history.length
      const added = await store.addSession(session, history, answer)
      if (added) {
        announce(session, undefined)
        await change(session.id, () => undefined)
      }
      return added
    },

    change,

    async onEvent(delivery) {
      try {
        await applyEvent(delivery)
        return 'ack'
      } catch (error) {
        if (error instanceof HowdahError && error.code === 'invalid_message') {
          return { deadLetter: error.message }
        }
        throw error
      }
    },

    async close() {
      closed = true
      clearTimeout(sweeper)
      for (const timer of retryTimers.values()) clearTimeout(timer)
      await atMost(CLOSE_DEADLINE_MS, Promise.allSettled([...background, ...locks.values()]))
    },
  }
}
