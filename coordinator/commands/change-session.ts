/** Changing a session for a command. */
import type { CommandDelivery } from '../../messages/bus.ts'
import type { Tags } from '../../messages/labels.ts'
import type { Session } from '../session.ts'
import { tag } from '../tags.ts'
import type { CommandContext, SessionAccepted } from './command-handlers.ts'
import { unknownSession } from './known-session.ts'

/**
 * Applies `mutate`, notes the reference and labels that the command gives, and keeps the answer under its `message_id`.
 * `details`: what the answer says beside the session's id; called after `mutate`.
 * @throws HowdahError `unknown_session` | what `mutate` throws
 */
export async function changeSession<Details extends object = object>(
  { store, conductor }: Pick<CommandContext, 'store' | 'conductor'>,
  { type, body, messageId }: CommandDelivery,
  id: string,
  mutate: (session: Session) => void,
  details: () => Details = () => ({}) as Details,
): Promise<SessionAccepted & Details> {
  const tagged = (session: Session): void => {
    mutate(session)
    tag(session, body as Tags)
  }
  const session = await conductor.change(id, tagged, type.replace(/^session\./, ''))
  if (!session) throw unknownSession(id)
  const reply = { accepted: true as const, session: session.id, ...details() }
  await store.saveAnswer({ messageId, reply })
  return reply
}
