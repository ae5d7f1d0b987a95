/**
 * Commands for what will never come back: a target with its sessions, or a mount agent. What is connected is not
 * forgotten, since it can be asked to remove what it has.
 */
import { HowdahError } from '../../messages/errors.ts'
import type { AgentView } from '../../messages/values.ts'
import * as requests from '../requests.ts'
import { changeSession } from './change-session.ts'
import { answerOf, earlierReply } from './command-answers.ts'
import type { CommandContext, CommandHandlers } from './command-handlers.ts'
import { knownSession } from './known-session.ts'

/** Sessions that a refusal lists. */
const LISTED = 10

type AgentForgotten = { accepted: true; sessions: string[] }

export function forgetCommands(context: CommandContext): CommandHandlers<'session.forget' | 'agent.forget'> {
  const { store, bus, registry, conductor } = context

  /** @throws HowdahError `unknown_agent` | `agent_in_use` */
  function requireGone(kind: AgentView['kind'], name: string): void {
    const agent = registry.list().find((one) => one.kind === kind && one.name === name)
    if (!agent) {
      throw new HowdahError('unknown_agent', `no ${kind} agent "${name}" is known; see "howdah agents"`, {
        field: 'name',
      })
    }
    if (agent.online) {
      throw inUse(`the ${kind} agent "${name}" is connected from ${agent.host}; stop it there first`)
    }
  }

  /** @throws HowdahError `agent_in_use` */
  async function forgetSessions(kind: AgentView['kind'], name: string, allowed: boolean): Promise<string[]> {
    const sessions = await store.sessionsOf({ kind, name })
    if (sessions.length === 0) return []
    const listed = sessions.slice(0, LISTED).join(', ') + (sessions.length > LISTED ? ', …' : '')
    if (kind === 'mount') {
      throw inUse(`sessions read through the mount agent "${name}": ${listed}; unpublish them first`)
    }
    if (!allowed) {
      throw inUse(`the target "${name}" has sessions: ${listed}; forget them, or all of them with the target`)
    }
    for (const session of sessions) await conductor.change(session, requests.forget)
    return sessions
  }

  return {
    async 'session.forget'({ session: id }, delivery) {
      const { request } = await knownSession(store, id)
      if (registry.isOnline({ kind: 'target', name: request.target })) {
        throw inUse(
          `the target "${request.target}" of the session "${id}" is connected; "howdah unpublish" removes the session with what belongs to it`,
        )
      }
      return changeSession(context, delivery, id, requests.forget)
    },

    async 'agent.forget'({ kind, name, sessions: allowed = false }, delivery) {
      requireGone(kind, name)
      const sessions = await forgetSessions(kind, name, allowed)
      await bus.disenroll({ kind, name })
      const reply: AgentForgotten = { accepted: true, sessions }
      if (!(await store.removeAgent(kind, name, answerOf(delivery, reply)))) {
        return ((await earlierReply(store, delivery)) ?? reply) as AgentForgotten
      }
      registry.forget(kind, name)
      return reply
    },
  }
}

function inUse(message: string): HowdahError {
  return new HowdahError('agent_in_use', message)
}
