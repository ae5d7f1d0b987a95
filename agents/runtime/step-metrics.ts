/** Times the steps of an agent, and shows the outcomes that the coordinator does not have yet. */
import { Gauge, Histogram, type Registry } from 'prom-client'
import type { RunningAgent } from './agent.ts'
import type { ObserveStep } from './step-executor.ts'

/** Seconds. */
const BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]

/** `agent`: undefined until it runs. */
export function stepMetrics(
  registry: Registry,
  agent: () => Pick<RunningAgent, 'unreportedOutcomes'> | undefined,
): ObserveStep {
  const registers = [registry]
  const steps = new Histogram({
    name: 'howdah_agent_step_seconds',
    help: 'Time that a step took on the agent, without waiting for its turn; aborted: a later command, or the end of the agent, ended it',
    labelNames: ['step', 'direction', 'outcome'],
    buckets: BUCKETS,
    registers,
  })
  new Gauge({
    name: 'howdah_agent_unreported_outcomes',
    help: 'Outcomes of steps that RabbitMQ has not confirmed yet',
    registers,
    collect() {
      this.set(agent()?.unreportedOutcomes ?? 0)
    },
  })
  return ({ step, direction }, outcome, milliseconds) =>
    steps.observe({ step, direction, outcome }, milliseconds / 1000)
}
