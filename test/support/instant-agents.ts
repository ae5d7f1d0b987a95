/** A mount agent and a target agent on a real broker that do nothing and report every step as done. */
import type { Logger } from 'pino'
import { connectBus } from '../../messages/amqp-bus.ts'
import type { BrokerUrl } from '../../messages/broker-address.ts'
import type { AgentCommandDelivery, Bus, Outcome } from '../../messages/bus.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { AgentView } from '../../messages/values.ts'
import { stepResults } from '../coordinator/step-results.ts'
import { mountAgent, targetAgent } from '../coordinator/test-coordinator.ts'

const HEARTBEAT_MS = 500

export interface InstantAgents {
  /** `SESSION.SEQUENCE run STEP`, in the order of their arrival, those that came again too. */
  readonly steps: readonly string[]
  /** Tells something of a published session, as its target agent does. */
  report: Bus['report']
  close(): Promise<void>
}

/** Answers from then on; a coordinator may start later. */
export async function startInstantAgents(url: BrokerUrl, logger: Logger): Promise<InstantAgents> {
  const steps: string[] = []
  const buses: Bus[] = []
  const timers: NodeJS.Timeout[] = []

  async function start(view: AgentView): Promise<void> {
    const agent: AgentAddress = { kind: view.kind, name: view.name }
    const bus = await connectBus({ url, appId: `howdah-${view.kind}-${view.name}`, role: 'agent', logger })
    buses.push(bus)
    const beat = (): void =>
      void bus.report(agent, 'agent.online', view, { timeoutMs: HEARTBEAT_MS }).catch(() => undefined)
    beat()
    timers.push(setInterval(beat, HEARTBEAT_MS))
    await bus.consumeAgentCommands({ ...agent, instance: 'instant' }, (delivery) =>
      answer(bus, agent, delivery),
    )
  }

  async function answer(bus: Bus, agent: AgentAddress, delivery: AgentCommandDelivery): Promise<Outcome> {
    if (delivery.type !== 'step.run' && delivery.type !== 'step.undo') return 'ack'
    const { session, step, sequence } = delivery.body
    const direction = delivery.type === 'step.run' ? 'run' : 'undo'
    steps.push(`${session}.${sequence} ${direction} ${step}`)
    const result = direction === 'run' ? stepResults[step] : { undone: [] }
    await bus.report(agent, 'session.step-done', { session, step, direction, sequence, result })
    return 'ack'
  }

  await Promise.all([start(mountAgent), start(targetAgent)])
  return {
    steps,
    report: (...args) => (buses.at(-1) as Bus).report(...args),
    async close() {
      for (const timer of timers) clearInterval(timer)
      await Promise.all(buses.map((bus) => bus.close()))
    },
  }
}
