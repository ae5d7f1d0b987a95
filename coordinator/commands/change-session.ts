/** Changing a session for a command. */
import type { CommandDelivery } from '../../messages/bus.ts'
import type { Tags } from '../../messages/labels.ts'
import type { Session } from '../session.ts'
import { tag } from '../tags.ts'
import { answerOf, earlierReply } from './command-answers.ts'
import type { CommandContext, SessionAccepted } from './command-handlers.ts'
import { unknownSession } from './known-session.ts'

/**
 * Applies `mutate`, notes the reference and labels that the command gives, and keeps the reply with the change. `details`:
 * what the reply says beside the session's id and the number of its latest step; called after `mutate`.
 * @returns the reply; the earlier one when another coordinator carried the command out in the meantime
 * @throws HowdahError `unknown_session` | what `mutate` throws
 */
export async function changeSession<Details extends object = object>(
  { store, conductor }: Pick<CommandContext, 'store' | 'conductor'>,
  delivery: CommandDelivery,
  id: string,
  mutate: (session: Session) => void,
  details: () => Details = () => ({}) as Details,
): Promise<SessionAccepted & Details> {
  let after = 0
  const reply = () => ({ accepted: true as const, session: id, after, ...details() })
  const text = delivery.type.replace(/^session\./, '')
  const tagged = (session: Session): void => {
    mutate(session)
    tag(session, delivery.body as Tags)
    after = session.sequence
  }
  const outcome = await conductor.execute(id, tagged, { text, answer: () => answerOf(delivery, reply()) })
  switch (outcome) {
    case 'done':
      return reply()
    case 'answered':
      return ((await earlierReply(store, delivery)) ?? reply()) as SessionAccepted & Details
    case 'unknown':
      throw unknownSession(id)
    default:
      return outcome satisfies never
  }
}
