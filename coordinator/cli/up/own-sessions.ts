/** The sessions of the target agent that a `howdah up` has started; on a shared broker there are those of others, too. */
import { hostname } from 'node:os'
import type { Bus } from '../../../messages/bus.ts'
import { ask, listSessions } from '../request.ts'
import { isOver } from '../session-progress.ts'
import { AGENT_NAME } from './role-files.ts'

/**
 * The ids of the open ones. None while the target agent of that name runs on another machine, whose sessions these are.
 * @throws HowdahError as `ask`
 */
export async function openSessions(bus: Bus, signal: AbortSignal): Promise<string[]> {
  const asking = { signal, tryMs: 3000 }
  const { agents } = await ask(bus, 'agent.list', {}, asking)
  const isOwn = agents.some(
    ({ kind, name, host }) => kind === 'target' && name === AGENT_NAME && host === hostname(),
  )
  if (!isOwn) return []
  const { sessions } = await listSessions(bus, { target: AGENT_NAME }, asking)
  return sessions.filter((view) => view.target === AGENT_NAME && !isOver(view)).map(({ id }) => id)
}
