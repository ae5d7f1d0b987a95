/** Changing a session for a command. */
import type { CommandDelivery } from '../../messages/bus.ts'
import type { Session } from '../session.ts'
import type { CommandContext, SessionAccepted } from './command-handlers.ts'
import { unknownSession } from './known-session.ts'

/** Applies `mutate` and keeps the answer. @throws HowdahError `unknown_session` | what `mutate` throws */
export async function changeSession(
  { store, conductor }: Pick<CommandContext, 'store' | 'conductor'>,
  { type, messageId }: CommandDelivery,
  id: string,
  mutate: (session: Session) => void,
): Promise<SessionAccepted> {
  const session = await conductor.change(id, mutate, type.replace(/^session\./, ''))
  if (!session) throw unknownSession(id)
  const reply: SessionAccepted = { accepted: true, session: session.id }
  await store.saveAnswer({ messageId, reply })
  return reply
}
