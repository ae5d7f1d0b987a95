/** What has to work for an agent of either kind to be ready. */
import type { Monitor } from '../../config/monitoring/monitor.ts'
import type { Bus } from '../../messages/bus.ts'
import type { RunningAgent } from './agent.ts'

export interface AgentParts {
  readonly bus: Pick<Bus, 'connectedSince'>
  /** Undefined until it runs. */
  readonly agent: () => Pick<RunningAgent, 'isConsuming'> | undefined
}

export function checkAgent(monitor: Monitor, { bus, agent }: AgentParts): void {
  monitor.check('broker', () =>
    bus.connectedSince === undefined
      ? 'there is no connection to RabbitMQ, or an alarm keeps it from taking messages'
      : undefined,
  )
  monitor.check('queue', () => (agent()?.isConsuming ? undefined : 'the agent does not consume its queue'))
}
