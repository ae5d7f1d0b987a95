/**
 * A program of the bench: agents of one kind, each on connections of its own, which report scripted outcomes of the steps
 * that they are sent. `node simulated-agents.ts {json}`, as a child with an IPC channel: it sends `ready` when all consume,
 * and ends with the channel.
 */
import { pino } from 'pino'
import { connectBus } from '../../../messages/amqp-bus.ts'
import type { AgentCommandDelivery, Bus } from '../../../messages/bus.ts'
import { OWN_RANGE } from '../../../messages/contract-version.ts'
import type { AgentCommandBody } from '../../../messages/definitions.ts'
import type { AgentAddress } from '../../../messages/topology.ts'
import { stepResults } from '../../coordinator/step-results.ts'

export interface SimulatedAgents {
  readonly url: string
  readonly kind: AgentAddress['kind']
  /** Numbers of the agents, which are called `KIND-NUMBER`. */
  readonly first: number
  readonly count: number
  /** Share of steps that fail. */
  readonly faults: number
  readonly heartbeatMs: number
}

/** A step takes about this long. */
const STEP_MS = 20
const AT_ONCE = 16

const options = JSON.parse(process.argv[2] ?? '{}') as SimulatedAgents
const logger = pino({ level: 'silent' })

function online(bus: Bus, address: AgentAddress): Promise<void> {
  return bus.report(address, 'agent.online', {
    ...address,
    online: true,
    lastSeen: new Date().toISOString(),
    version: '0.1.0',
    contract: OWN_RANGE,
    host: `${address.name}.example`,
    ...(address.kind === 'mount'
      ? { repositories: [{ name: `repository-${address.name}`, format: 'pgbackrest' as const }] }
      : { postgresVersions: ['15'], limits: { sessions: null, cacheBytes: null } }),
  })
}

async function perform(
  bus: Bus,
  address: AgentAddress,
  direction: 'run' | 'undo',
  { session, step, sequence }: AgentCommandBody<'step.run'>,
): Promise<void> {
  const about = { session, step, direction, sequence }
  await bus.report(address, 'session.step-started', about)
  await new Promise((resolve) => setTimeout(resolve, STEP_MS))
  const messageId = `${session}.${sequence}.outcome`
  if (direction === 'run' && Math.random() < options.faults) {
    const error = { code: 'mount_failed' as const, message: 'a simulated fault', retryable: true }
    await bus.report(address, 'session.step-failed', { ...about, error }, { messageId })
    return
  }
  const result = direction === 'run' ? stepResults[step as keyof typeof stepResults] : { undone: [] }
  await bus.report(address, 'session.step-done', { ...about, result }, { messageId })
}

async function start(number: number): Promise<void> {
  const address = { kind: options.kind, name: `${options.kind}-${number}` }
  const bus = await connectBus({
    ...{ url: options.url, appId: `howdah-${address.name}`, role: 'agent', logger, waitMs: 120_000 },
  })
  await bus.consumeAgentCommands(
    { ...address, instance: 'simulated' },
    async (delivery: AgentCommandDelivery) => {
      if (delivery.type !== 'step.run' && delivery.type !== 'step.undo') return 'ack'
      const direction = delivery.type === 'step.run' ? 'run' : 'undo'
      // As an agent does: acknowledged when accepted, performed afterwards.
      perform(bus, address, direction, delivery.body).catch(() => undefined)
      return 'ack'
    },
  )
  await online(bus, address)
  setTimeout(() => {
    setInterval(() => online(bus, address).catch(() => undefined), options.heartbeatMs)
  }, Math.random() * options.heartbeatMs)
}

process.on('disconnect', () => process.exit(0))
// Connecting all at once would measure the broker's handshakes.
for (let at = 0; at < options.count; at += AT_ONCE) {
  const numbers = Array.from({ length: Math.min(AT_ONCE, options.count - at) }, (_, index) => at + index)
  await Promise.all(numbers.map((number) => start(options.first + number)))
}
process.send?.('ready')
