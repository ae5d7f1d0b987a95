/** `instance.check`: what a publish would find and need, as its two agents report it. */
import type { Bus } from '../messages/bus.ts'
import type { CheckReport } from '../messages/definitions.ts'
import { errorBody, HowdahError } from '../messages/errors.ts'
import type { Finding } from '../messages/primitives.ts'
import type { ResolveResult, StepInput } from '../messages/steps.ts'
import type { AgentView } from '../messages/values.ts'
import type { AgentRegistry } from './agent-registry.ts'
import type { SessionRequest } from './session.ts'

export interface CheckDependencies {
  readonly bus: Bus
  readonly registry: AgentRegistry
}

/** An agent that cannot be asked becomes a finding, so that the report says all that can be known. */
export async function checkPublish(request: SessionRequest, deps: CheckDependencies): Promise<CheckReport> {
  const { bus, registry } = deps
  const findings: Finding[] = []

  async function askAgent<T>(
    find: () => AgentView,
    ask: (agent: AgentView) => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await ask(find())
    } catch (error) {
      findings.push(...findingsOf(error))
      return undefined
    }
  }

  const resolved = await askAgent(
    () => registry.forRepository(request.repository),
    async (agent): Promise<ResolveResult | undefined> => {
      const reply = await bus.requestAgent(
        agent,
        'backup.check',
        { input: request },
        { timeoutMs: DEADLINE_MS },
      )
      if (!reply.accepted) throw HowdahError.of(reply.error)
      findings.push(...reply.findings)
      return reply.resolved
    },
  )
  const input: StepInput = { ...request, ...(resolved && { resolved }) }
  const target = await askAgent(
    () => registry.target(request.target),
    async (agent) => {
      const reply = await bus.requestAgent(agent, 'target.check', { input }, { timeoutMs: DEADLINE_MS })
      if (!reply.accepted) throw HowdahError.of(reply.error)
      findings.push(...reply.findings)
      return reply.estimate
    },
  )
  return {
    ...(resolved && { backup: resolved.backup.label }),
    recoverTo: resolved?.recoverTo ?? request.recoverTo,
    findings,
    estimate: { ...target, ...(resolved?.walBytes !== undefined && { walBytes: resolved.walBytes }) },
  }
}

function findingsOf(error: unknown): Finding[] {
  const { details, ...body } = errorBody(error)
  const all = details ?? [body]
  return all.map(({ code, message, field }) => ({
    level: 'error',
    code,
    message,
    ...(field !== undefined && { field }),
  }))
}

const DEADLINE_MS = 60_000
