/** The limits that a target agent sets to its sessions: how many, and how large their write caches may be together. */
import { HowdahError } from '../../messages/errors.ts'
import type { CommandContext } from './command-handlers.ts'

/** Refuses a new session on a target that is full. @throws HowdahError `limit_reached` | `unknown_target` | `agent_offline` */
export async function requireCapacity(
  { store, registry }: Pick<CommandContext, 'store' | 'registry'>,
  target: string,
): Promise<void> {
  const { limits } = registry.target(target)
  if (!limits) return
  const sessions = (await store.sessions({ settled: false })).filter(
    ({ request }) => request.target === target,
  )
  const open = sessions.filter(({ state }) => state !== 'closed').length
  if (limits.sessions !== null && open >= limits.sessions) {
    throw limitReached(
      `the target "${target}" takes ${limits.sessions} sessions at a time and has ${open}; unpublish one, or raise limits.sessions of its agent`,
    )
  }
  const bytes = sessions.reduce((sum, { usage }) => sum + (usage?.cacheBytes ?? 0), 0)
  if (limits.cacheBytes !== null && bytes >= limits.cacheBytes) {
    throw limitReached(
      `the write caches of the target "${target}" take ${bytes} bytes of the ${limits.cacheBytes} that limits.cacheBytes of its agent allows; unpublish a session, or raise it`,
    )
  }
}

function limitReached(message: string): HowdahError {
  return new HowdahError('limit_reached', message, { field: 'target' })
}
