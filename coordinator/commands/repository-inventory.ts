/** `inventory.list`: what can be published, asked of every mount agent that serves a repository in question. */
import type { CommandBody } from '../../messages/definitions.ts'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { AgentView, RepositoryInventory } from '../../messages/values.ts'
import type { CommandContext } from './command-handlers.ts'

const DEADLINE_MS = 20_000

/**
 * An agent that does not answer is listed with its error and hides no other.
 * @throws HowdahError `unknown_repository` | `agent_offline` for a repository that the command names
 */
export async function repositoryInventory(
  context: Pick<CommandContext, 'bus' | 'registry'>,
  body: CommandBody<'inventory.list'>,
): Promise<RepositoryInventory[]> {
  const { registry } = context
  const { repository } = body
  if (repository !== undefined) registry.forRepository(repository)
  const serves = ({ kind, repositories }: AgentView): boolean =>
    kind === 'mount' &&
    (repository === undefined || repositories?.some(({ name }) => name === repository) === true)
  const lists = await Promise.all(
    registry
      .list()
      .filter(serves)
      .map((agent) => listOf(context, agent, body)),
  )
  return lists.flat().sort((a, b) => a.repository.localeCompare(b.repository))
}

async function listOf(
  { bus }: Pick<CommandContext, 'bus'>,
  agent: AgentView,
  body: CommandBody<'inventory.list'>,
): Promise<RepositoryInventory[]> {
  try {
    if (!agent.online) {
      throw new HowdahError('agent_offline', `the mount agent "${agent.name}" is offline`)
    }
    const reply = await bus.requestAgent(agent, 'repository.list', body, { timeoutMs: DEADLINE_MS })
    if (!reply.accepted) throw HowdahError.of(reply.error)
    return reply.repositories
  } catch (error) {
    const failed = { mountAgent: agent.name, instances: [], error: errorBody(error) }
    return (agent.repositories ?? [])
      .filter(({ name }) => body.repository === undefined || name === body.repository)
      .map(({ name, format }) => ({ repository: name, format, ...failed }))
  }
}
