/**
 * What this coordinator does while it holds the lease, and another one with the same store does while it does not: it
 * consumes, and takes up what is due.
 */
import type { Logger } from 'pino'
import type { Bus, CommandDelivery, Consumer, Outcome, ReportDelivery } from '../messages/bus.ts'
import type { Lease } from '../messages/lease.ts'
import { createOutageLog } from '../messages/outage-log.ts'
import { Unavailable } from '../messages/unavailable.ts'
import { pause } from '../messages/wait.ts'
import type { AgentRegistry } from './agent-registry.ts'
import type { AuditTrail } from './audit-trail.ts'
import type { Conductor } from './conductor.ts'
import type { Enrolments } from './enrolments.ts'
import type { Store } from './store/store.ts'
import { createStoreWatch } from './store-watch.ts'

export interface Leadership {
  /** Since when agents can be heard, in ms since the epoch; undefined while they cannot. */
  readonly since: number | undefined
  /** Whether all its queues are consumed; undefined: another coordinator is active. */
  readonly isConsuming: boolean | undefined
  /** Stops consuming, waits for running handlers, and gives the lease up. */
  close(): Promise<void>
}

export interface LeadershipOptions {
  readonly bus: Bus
  readonly store: Pick<Store, 'id' | 'ping' | 'turns' | 'saveTurns'>
  readonly registry: Pick<AgentRegistry, 'refresh'>
  readonly enrolments: Pick<Enrolments, 'refresh'>
  readonly conductor: Pick<Conductor, 'start' | 'pause' | 'onReport'>
  readonly intake: (delivery: CommandDelivery) => Promise<Outcome>
  readonly audit: Pick<AuditTrail, 'start' | 'pause'>
  readonly logger: Logger
}

const RETRY_MS = 5_000

/**
 * Resolves when this coordinator consumes, or stands by.
 * @throws HowdahError `configuration` when the broker belongs to another store, or its queues are not as ours
 */
export async function openLeadership(options: LeadershipOptions): Promise<Leadership> {
  const { bus, store, registry, enrolments, conductor, intake, audit, logger } = options
  let lease: Lease | undefined
  /** Aborted when the lease is lost; undefined while it is not held. */
  let turn: AbortController | undefined
  let consumers: Consumer[] = []
  let opened = false
  /** One turn begins after the one before has ended. */
  let work: Promise<void> = Promise.resolve()

  /** A delivery that comes after the lease was lost is for the coordinator that holds it now. */
  function whileHeld<D>(handler: (delivery: D) => Promise<Outcome>): (delivery: D) => Promise<Outcome> {
    return (delivery) => {
      if (turn === undefined) return Promise.reject(new Unavailable('another coordinator is active'))
      return handler(delivery)
    }
  }

  const onReport = whileHeld<ReportDelivery>(conductor.onReport)
  const onCommand = whileHeld<CommandDelivery>(intake)
  const queues: readonly (() => Promise<Consumer>)[] = [
    () => bus.consumeHeartbeats(onReport),
    () => bus.consumeReports(onReport),
    () => bus.consumeObservations(onReport),
    () => bus.consumeCommands(onCommand),
    () => bus.consumeQueries(onCommand),
  ]

  async function consume(): Promise<void> {
    // What the coordinator before recorded.
    await Promise.all([registry.refresh(), enrolments.refresh()])
    for (const start of queues) consumers.push(await start())
  }

  async function stopConsuming(): Promise<void> {
    const closing = consumers
    consumers = []
    await Promise.all(closing.map((consumer) => consumer.close()))
  }

  async function begin(lost: AbortSignal): Promise<void> {
    const outage = createOutageLog({
      logger,
      failing: 'this coordinator is active and cannot consume',
      again: 'this coordinator consumes again',
    })
    while (!lost.aborted) {
      try {
        await consume()
        if (lost.aborted) return
        outage.works()
        conductor.start()
        audit.start()
        return
      } catch (error) {
        await stopConsuming()
        if (!opened) throw error
        outage.failed(error)
        await pause(RETRY_MS, lost)
      }
    }
  }

  const watch = createStoreWatch({ store, onLost: () => lease?.giveUp(), logger })
  try {
    lease = await bus.holdLease({
      store: store.id,
      turns: store,
      ready: watch.reachable,
      onHeld() {
        turn = new AbortController()
        const { signal } = turn
        work = work.then(() => begin(signal))
        work.catch(() => {})
      },
      onLost() {
        turn?.abort()
        turn = undefined
        conductor.pause()
        audit.pause()
        work = work.then(stopConsuming)
        work.catch(() => {})
      },
    })
    await work
    opened = true
  } catch (error) {
    watch.close()
    await lease?.close()
    throw error
  }

  return {
    get since() {
      const { connectedSince } = bus
      const heldSince = lease?.heldSince
      return connectedSince === undefined || heldSince === undefined
        ? undefined
        : Math.max(connectedSince, heldSince)
    },
    get isConsuming() {
      if (turn === undefined) return undefined
      return consumers.length === queues.length && consumers.every((consumer) => consumer.isConsuming)
    },
    async close() {
      watch.close()
      conductor.pause()
      work = work.then(stopConsuming)
      await work
      await lease?.close()
    },
  }
}
