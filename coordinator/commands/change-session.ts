/** Changing a session for a command. */
import type { CommandDelivery } from '../../messages/bus.ts'
import type { Session } from '../session.ts'
import type { CommandContext, SessionAccepted } from './command-handlers.ts'
import { unknownSession } from './known-session.ts'

/**
 * Applies `mutate` and keeps the answer under the command's `message_id`. `details`: what the answer says beside the
 * session's id; called after `mutate`.
 * @throws HowdahError `unknown_session` | what `mutate` throws
 */
export async function changeSession<Details extends object = object>(
  { store, conductor }: Pick<CommandContext, 'store' | 'conductor'>,
  { type, messageId }: CommandDelivery,
  id: string,
  mutate: (session: Session) => void,
  details: () => Details = () => ({}) as Details,
): Promise<SessionAccepted & Details> {
  const session = await conductor.change(id, mutate, type.replace(/^session\./, ''))
  if (!session) throw unknownSession(id)
  const reply = { accepted: true as const, session: session.id, ...details() }
  await store.saveAnswer({ messageId, reply })
  return reply
}
