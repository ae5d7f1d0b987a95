/** Making a session for a command. */
import type { CommandDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { Tags } from '../../messages/labels.ts'
import { timestamp } from '../clock.ts'
import { newSession, type Session, type SessionRequest } from '../session.ts'
import { tag } from '../tags.ts'
import { answerOf, earlierReply } from './command-answers.ts'
import type { CommandContext, SessionAccepted } from './command-handlers.ts'
import { limitReached } from './target-limits.ts'

export interface NewSession {
  readonly request: SessionRequest
  /** The mount agent that serves the repository. */
  readonly mountAgent: string
  /** Adds to the new session what the request does not hold. */
  readonly prepare?: (session: Session) => void
}

/** Session ids are random; so many in a row that are taken are a defect. */
const ID_ATTEMPTS = 5

/**
 * @returns the reply; the earlier one when another coordinator carried the command out in the meantime
 * @throws HowdahError `limit_reached` | `unknown_target` | `agent_offline`
 */
export async function addSession(
  { store, registry, conductor, now, newSessionId }: CommandContext,
  delivery: CommandDelivery,
  { request, mountAgent, prepare }: NewSession,
): Promise<SessionAccepted> {
  const { limits } = registry.target(request.target)
  for (let attempt = 1; attempt <= ID_ATTEMPTS; attempt++) {
    const session = newSession(newSessionId(request.instance), request, mountAgent, timestamp(now))
    session.messageId = delivery.messageId
    tag(session, delivery.body as Tags)
    prepare?.(session)
    const reply: SessionAccepted = { accepted: true, session: session.id }
    const added = await conductor.add(session, answerOf(delivery, reply), limits)
    switch (added.outcome) {
      case 'added':
        return reply
      case 'answered':
        return ((await earlierReply(store, delivery)) ?? reply) as SessionAccepted
      case 'full':
        throw limitReached(request.target, limits, added.usage)
      case 'id-taken':
        break
      default:
        added satisfies never
    }
  }
  throw new HowdahError('internal', 'no session id is free; send the command again')
}
