/** The command of a step: which agent it is for, and its input. */
import type { ErrorBody } from '../messages/errors.ts'
import type { StepCommand, StepInput } from '../messages/steps.ts'
import type { AgentAddress } from '../messages/topology.ts'
import type { StepName } from '../messages/values.ts'
import type { AgentRegistry } from './agent-registry.ts'
import { dueExport } from './planner.ts'
import type { Session } from './session.ts'

/** Which agent a step is for. */
export function stepAgent(session: Session, step: StepName): { kind: 'mount' | 'target'; name: string } {
  return step === 'resolve'
    ? { kind: 'mount', name: session.mountAgent }
    : { kind: 'target', name: session.request.target }
}

/** The input of a step: the request and the results of the steps before. */
export function stepInput(session: Session): StepInput {
  const due = dueExport(session)
  return {
    ...session.request,
    ...(session.keepCache && { keepCache: true }),
    ...(session.everPublished && { resumes: true }),
    ...(due && { export: { id: due.id, request: due.request } }),
    ...(session.results.resolve && { resolved: session.results.resolve }),
    ...(session.results.preflight && { checked: session.results.preflight }),
    ...(session.results.mount && { mounted: session.results.mount }),
  }
}

export interface AgentCommand {
  readonly agent: AgentAddress
  readonly type: 'step.run' | 'step.undo'
  readonly body: StepCommand
}

/** The command of the current step; undefined without one. */
export function currentCommand(session: Session): AgentCommand | undefined {
  const { id, current } = session
  if (!current) return undefined
  const { step, direction, sequence } = current
  return {
    agent: stepAgent(session, step),
    type: direction === 'run' ? 'step.run' : 'step.undo',
    body: { session: id, step, sequence, input: stepInput(session) },
  }
}

/** Why the agent of the current step cannot be given its command. */
export function obstacleOf(
  session: Session,
  registry: Pick<AgentRegistry, 'obstacle'>,
): ErrorBody | undefined {
  const command = currentCommand(session)
  return command && registry.obstacle(command.agent, command)
}
