/**
 * Owns what mount agents and target agents share: being online. It consumes the agent's queue and sends
 * heartbeats. A step command goes from the queue through the step runner into the journal and is then acknowledged; a
 * query goes to its handler, and its reply is sent before it is acknowledged. This folder knows nothing of what a step
 * does: it must not touch repositories, mounts or PostgreSQL.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import { version } from '../../config/version.ts'
import type { AgentCommandDelivery, Bus, Outcome } from '../../messages/bus.ts'
import { OWN_RANGE } from '../../messages/contract-version.ts'
import type { RevocationList } from '../../messages/enrolment.ts'
import { createOutageLog } from '../../messages/outage-log.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { AgentView } from '../../messages/values.ts'
import type { Journal } from './journal.ts'
import { outcomeId } from './outcome-reporter.ts'
import { startPresenceReport } from './presence-report.ts'
import { type AgentQueries, createQueryAnswers } from './query-answers.ts'
import type { ObserveStep } from './step-executor.ts'
import { createStepRunner, type StepHandlers } from './step-runner.ts'

export interface AgentOptions {
  readonly address: AgentAddress
  readonly bus: Bus
  readonly journal: Journal
  readonly steps: StepHandlers
  /** What is reported to the coordinator besides the name. */
  readonly describe: () => Pick<
    AgentView,
    'repositories' | 'postgresVersions' | 'limits' | 'dataPlane' | 'certificate' | 'revocations'
  >
  /** Requests that are answered at once, without a step. */
  readonly queries: AgentQueries
  /** Ids of the sessions of which something is present here. Default: none is ever left. */
  readonly sessions?: () => Promise<readonly string[]>
  /** Called with the latest list of revoked certificates; mount agents go by it. */
  readonly onRevocations?: (list: RevocationList) => void
  readonly heartbeatMs: number
  /** Called when a step has ended. */
  readonly onStep?: ObserveStep
  readonly logger: Logger
}

export interface RunningAgent {
  /** Whether it consumes its queue. */
  readonly isConsuming: boolean
  /** Outcomes of steps that the broker has not confirmed yet. */
  readonly unreportedOutcomes: number
  /** Stops consuming, reports the agent as offline, and leaves unfinished steps to the next process. */
  close(): Promise<void>
}

/** How long the first `agent.online` may take: RabbitMQ may be blocked by an alarm when an agent starts. */
const FIRST_ONLINE_MS = 300_000
/** A heartbeat is of no use after this many intervals. */
const HEARTBEATS_KEPT = 3
/** Steps with a confirmed outcome are kept this long, for a coordinator that sends one again. */
const RETENTION_DAYS = 7
const DAY_MS = 86_400_000

/** Resolves when the agent consumes its queue and the broker has confirmed `agent.online`. */
export async function runAgent(options: AgentOptions): Promise<RunningAgent> {
  const { address, bus, journal, describe, queries, heartbeatMs, logger } = options
  const runner = createStepRunner({
    journal,
    handlers: options.steps,
    observe: options.onStep,
    emit: (type, body, messageId) =>
      bus.report(address, type, body, messageId === undefined ? {} : { messageId }),
    logger,
  })

  const instance = randomUUID()
  const online = (timeoutMs: number): Promise<void> =>
    bus.report(
      address,
      'agent.online',
      {
        ...address,
        online: true,
        lastSeen: new Date().toISOString(),
        version: version(),
        contract: OWN_RANGE,
        host: hostname(),
        instance,
        ...describe(),
      },
      { timeoutMs, expiresMs: HEARTBEATS_KEPT * heartbeatMs },
    )

  const prune = (): void => {
    try {
      journal.prune(new Date(Date.now() - RETENTION_DAYS * DAY_MS))
    } catch (error) {
      logger.warn({ err: error }, 'the journal could not be pruned')
    }
  }
  prune()
  runner.resume()
  const answer = createQueryAnswers({ queries, reply: bus.reply })
  const handle = async (delivery: AgentCommandDelivery): Promise<Outcome> => {
    switch (delivery.type) {
      case 'step.run':
        runner.accept('run', delivery.body)
        return 'ack'
      case 'step.undo':
        runner.accept('undo', delivery.body)
        return 'ack'
      case 'agent.revocations':
        options.onRevocations?.(delivery.body)
        return 'ack'
      case 'repository.list':
      case 'backup.check':
      case 'target.check':
      case 'caches.verify':
      case 'session.changes':
      case 'session.record':
        return answer(delivery)
      default:
        return delivery satisfies never
    }
  }
  const consumer = await bus.consumeAgentCommands({ ...address, instance }, handle, (step, error) =>
    bus.report(
      address,
      'session.step-failed',
      { ...step, error },
      { messageId: outcomeId(step.session, step.sequence) },
    ),
  )
  await online(FIRST_ONLINE_MS)
  const outage = createOutageLog({
    logger,
    failing: 'a heartbeat was not sent',
    again: 'heartbeats are sent again',
  })
  const heartbeat = setInterval(() => {
    // Another process may have taken the name while this one was cut off.
    if (!consumer.isConsuming) return
    // One heartbeat at a time: after an outage only the latest matters.
    online(heartbeatMs).then(() => outage.works(), outage.failed)
  }, heartbeatMs)
  const pruner = setInterval(prune, DAY_MS)
  const presence =
    options.sessions &&
    startPresenceReport({
      list: options.sessions,
      report: (present) => bus.report(address, 'agent.sessions', { ...address, ...present }),
      logger,
    })

  return {
    get isConsuming() {
      return consumer.isConsuming
    },
    get unreportedOutcomes() {
      return runner.unreportedOutcomes
    },
    async close() {
      clearInterval(heartbeat)
      clearInterval(pruner)
      presence?.close()
      // While the broker is away nothing can be reported: what waits for it is abandoned, and kept in the journal.
      if (bus.connectedSince === undefined) await bus.close()
      await consumer.close()
      await runner.close()
      await bus
        .report(address, 'agent.offline', address, {
          timeoutMs: 2_000,
          expiresMs: HEARTBEATS_KEPT * heartbeatMs,
        })
        .catch((error: unknown) => logger.warn({ err: error }, 'agent.offline could not be sent'))
      journal.close()
    },
  }
}
