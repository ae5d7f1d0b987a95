/** Making a session for a command, once per `message_id`. */
import type { CommandDelivery } from '../../messages/bus.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { Tags } from '../../messages/labels.ts'
import { timestamp } from '../clock.ts'
import { newSession, type Session, type SessionRequest } from '../session.ts'
import { tag } from '../tags.ts'
import type { CommandContext, SessionAccepted } from './command-handlers.ts'

export interface NewSession {
  readonly request: SessionRequest
  /** The mount agent that serves the repository. */
  readonly mountAgent: string
  /** Adds to the new session what the request does not hold. */
  readonly prepare?: (session: Session) => void
}

/** @returns the answer of this command, or the one that the same command got when it came twice at once */
export async function addSession(
  { store, conductor, now, newSessionId }: CommandContext,
  { body, messageId }: CommandDelivery,
  { request, mountAgent, prepare }: NewSession,
): Promise<SessionAccepted> {
  const session = newSession(newSessionId(request.instance), request, mountAgent, timestamp(now))
  session.messageId = messageId
  tag(session, body as Tags)
  prepare?.(session)
  const reply: SessionAccepted = { accepted: true, session: session.id }
  if (await conductor.add(session, { messageId, reply })) return reply
  const earlier = await store.answer(messageId)
  if (earlier) return earlier as SessionAccepted
  throw new HowdahError('internal', `the new session id ${session.id} is taken; send the command again`)
}
