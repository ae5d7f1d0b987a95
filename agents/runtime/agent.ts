/**
 * What mount agents and target agents share: being there. Enrols, consumes the agent's queue, tells the coordinator
 * that it is online, and hands steps to the runner.
 */
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import { version } from '../../config/version.ts'
import type { Bus } from '../../messages/bus.ts'
import type { AgentCommandBody, AgentQueryType, AgentReply } from '../../messages/definitions.ts'
import { errorBody } from '../../messages/errors.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { AgentView } from '../../messages/values.ts'
import type { Journal } from './journal.ts'
import { createStepRunner, type StepHandlers } from './step-runner.ts'

export type AgentQueries = {
  readonly [T in AgentQueryType]?: (body: AgentCommandBody<T>) => Promise<AgentReply<T>>
}

export interface AgentOptions {
  readonly address: AgentAddress
  readonly bus: Bus
  readonly journal: Journal
  readonly steps: StepHandlers
  /** What the coordinator should know of this agent beyond its name. */
  readonly describe: () => Pick<AgentView, 'repositories' | 'postgresVersions' | 'limits'>
  /** What it answers at once. */
  readonly queries: AgentQueries
  readonly heartbeatMs: number
  readonly logger: Logger
}

export interface RunningAgent {
  /** Takes no more commands, says goodbye, and leaves unfinished steps to the next process. */
  close(): Promise<void>
}

/** How long the first word to the coordinator may take: RabbitMQ may be short of room when an agent starts. */
const FIRST_WORD_MS = 300_000
/** Announced steps are remembered this long, for a coordinator that asks again. */
const REMEMBER_DAYS = 7
const DAY_MS = 86_400_000

/** Resolves when the agent consumes and the coordinator's broker knows that it is online. */
export async function runAgent(options: AgentOptions): Promise<RunningAgent> {
  const { address, bus, journal, describe, queries, heartbeatMs, logger } = options
  const runner = createStepRunner({
    journal,
    handlers: options.steps,
    emit: (type, body, messageId) => bus.emit(type, body, messageId === undefined ? {} : { messageId }),
    logger,
  })

  const online = (timeoutMs: number): Promise<void> =>
    bus.emit(
      'agent.online',
      {
        ...address,
        online: true,
        lastSeen: new Date().toISOString(),
        version: version(),
        host: hostname(),
        ...describe(),
      },
      { timeoutMs },
    )

  journal.prune(new Date(Date.now() - REMEMBER_DAYS * DAY_MS))
  await bus.enroll(address)
  runner.resume()
  const consumer = await bus.consumeAgentCommands(address, async (delivery) => {
    switch (delivery.type) {
      case 'step.run':
        runner.accept('run', delivery.body)
        return 'ack'
      case 'step.undo':
        runner.accept('undo', delivery.body)
        return 'ack'
      case 'repository.list':
      case 'backup.check':
      case 'target.check':
      case 'caches.verify':
      case 'session.changes': {
        const answer = queries[delivery.type] as ((body: unknown) => Promise<object>) | undefined
        if (!answer) return { deadLetter: `a ${address.kind} agent does not answer ${delivery.type}` }
        const reply = await answer(delivery.body).catch((error: unknown) => ({
          accepted: false as const,
          error: errorBody(error),
        }))
        await bus.reply(delivery, reply)
        return 'ack'
      }
      default:
        return delivery satisfies never
    }
  })
  await online(FIRST_WORD_MS)
  const heartbeat = setInterval(() => {
    // One heartbeat at a time: after an outage only the latest matters.
    online(heartbeatMs).catch((error: unknown) => logger.warn({ err: error }, 'a heartbeat was not sent'))
  }, heartbeatMs)
  const pruner = setInterval(() => journal.prune(new Date(Date.now() - REMEMBER_DAYS * DAY_MS)), DAY_MS)

  return {
    async close() {
      clearInterval(heartbeat)
      clearInterval(pruner)
      await consumer.close()
      await runner.close()
      await bus
        .emit('agent.offline', address, { timeoutMs: 2_000 })
        .catch((error: unknown) => logger.warn({ err: error }, 'could not say goodbye'))
      journal.close()
    },
  }
}
