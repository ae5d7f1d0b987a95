/**
 * Agents that answer by a script, without a repository and without PostgreSQL: real connections, real journals, real
 * messages. For tests and measurements of the coordinator.
 */
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { type RunningAgent, runAgent } from '../../agents/runtime/agent.ts'
import { openJournal } from '../../agents/runtime/journal.ts'
import type { StepHandler, StepHandlers } from '../../agents/runtime/step-runner.ts'
import { connectBus } from '../../messages/amqp-bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { StepResult } from '../../messages/steps.ts'
import type { AgentAddress } from '../../messages/topology.ts'
import type { AgentView, StepName } from '../../messages/values.ts'
import { stepResults } from '../coordinator/step-results.ts'

export interface ScriptedAgentOptions {
  readonly url: string
  readonly address: AgentAddress
  /** For its journal. */
  readonly directory: string
  readonly heartbeatMs: number
  /** How long steps take. */
  readonly stepMs?: { readonly least: number; readonly most: number }
  /** Share of steps that fail, in a way that passes. */
  readonly faults?: number
}

/** Resolves when it is online. A mount agent serves one repository, of its own name. */
export async function startScriptedAgent(options: ScriptedAgentOptions): Promise<{ close(): Promise<void> }> {
  const { url, address, directory, heartbeatMs } = options
  const logger = pino({ level: 'silent' })
  const name = `${address.kind}-${address.name}`
  const bus = await connectBus({ url, appId: `howdah-${name}`, role: 'agent', logger })
  const agent: RunningAgent = await runAgent({
    ...{ address, bus, logger, heartbeatMs },
    journal: openJournal(path.join(directory, `${name}.sqlite`)),
    steps: scriptedSteps(options),
    describe: () => describe(address),
    queries: {},
  })
  return {
    async close() {
      await agent.close()
      await bus.close()
    },
  }
}

function describe({ kind, name }: AgentAddress): Pick<AgentView, 'repositories' | 'limits'> {
  return kind === 'mount'
    ? { repositories: [{ name, format: 'pgbackrest' }] }
    : { limits: { sessions: null, cacheBytes: null } }
}

function scriptedSteps({ stepMs = { least: 0, most: 0 }, faults = 0 }: ScriptedAgentOptions): StepHandlers {
  async function takeTime(): Promise<void> {
    await sleep(stepMs.least + Math.random() * (stepMs.most - stepMs.least))
    if (Math.random() < faults) throw new HowdahError('operation_failed', 'the script says so')
  }
  const step = <S extends StepName>(name: S): StepHandler<S> => ({
    async run() {
      await takeTime()
      return stepResults[name] as StepResult<S>
    },
    async undo() {
      await takeTime()
      return { undone: [`the ${name} of the script`] }
    },
  })
  return {
    resolve: step('resolve'),
    preflight: step('preflight'),
    mount: step('mount'),
    recover: step('recover'),
  }
}
