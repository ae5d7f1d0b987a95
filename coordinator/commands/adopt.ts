/**
 * `session.adopt`: what is left of a session on a target although no session here knows it, since the store was restored or
 * lost, or the session was forgotten. It is taken over as it is published, or taken over to be removed.
 */
import { HowdahError } from '../../messages/errors.ts'
import { timestamp } from '../clock.ts'
import * as requests from '../requests.ts'
import { isSettled, newSession, type SessionRequest } from '../session.ts'
import { changeSession } from './change-session.ts'
import { answerOf, earlierReply } from './command-answers.ts'
import type { CommandContext, CommandHandlers, SessionAccepted } from './command-handlers.ts'

/** Stands for what a target does not know of a session that is only removed. */
const UNKNOWN = 'unknown'

export function adoptCommands(context: CommandContext): CommandHandlers<'session.adopt'> {
  const { store, bus, registry, conductor, now } = context
  return {
    async 'session.adopt'({ session: id, target, remove = false }, delivery) {
      const agent = registry.target(target)
      const known = await store.session(id)
      if (known && !isSettled(known)) throw refused(`the session "${id}" is known, and is ${known.state}`)
      const found = await bus.requestAgent(agent, 'session.record', { session: id })
      if (!found.accepted) throw HowdahError.of(found.error)
      const { input, recover } = found
      if (!remove && !(recover && input?.resolved && input.checked && input.mounted)) {
        throw refused(
          `the target "${target}" does not know how the session "${id}" was published, so that it can only be removed ("--remove")`,
        )
      }
      if (known) {
        return changeSession(context, delivery, id, (session) => requests.adopt(session, found, remove))
      }
      const request: SessionRequest = {
        repository: input?.repository ?? UNKNOWN,
        instance: input?.instance ?? UNKNOWN,
        backup: input?.backup ?? 'latest',
        recoverTo: input?.recoverTo ?? { type: 'latest' },
        target,
        options: input?.options ?? {},
      }
      const mountAgent = input?.resolved?.dataPlane.mountAgent ?? UNKNOWN
      const session = newSession(id, request, mountAgent, timestamp(now))
      session.messageId = delivery.messageId
      requests.adopt(session, found, remove)
      const reply: SessionAccepted = { accepted: true, session: id }
      const added = await conductor.add(session, answerOf(delivery, reply))
      if (added.outcome === 'added') return reply
      const earlier = await earlierReply(store, delivery)
      if (earlier) return earlier as SessionAccepted
      throw refused(`the session "${id}" was taken over by another command`)
    },
  }
}

function refused(message: string): HowdahError {
  return new HowdahError('session_state', message, { field: 'session' })
}
