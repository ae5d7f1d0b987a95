/** Protects the changes in a published instance: they are discarded only when a client says so. */
import { HowdahError } from '../../messages/errors.ts'
import type { Session } from '../session.ts'
import type { CommandContext } from './command-handlers.ts'

/**
 * Asks the target agent whether the session holds changes that were not exported.
 * @throws HowdahError `changes_unexported` | what asking the target agent throws
 */
export async function requireNoChanges(
  { bus, registry }: Pick<CommandContext, 'bus' | 'registry'>,
  session: Session,
): Promise<void> {
  if (session.keepCache) throw unexported(session, '')
  if (!session.everPublished || session.desired === 'absent') return
  const agent = registry.target(session.request.target)
  const reply = await bus.requestAgent(agent, 'session.changes', { session: session.id })
  if (!reply.accepted) throw HowdahError.of(reply.error)
  const { changed, databases, more = 0 } = reply.changes
  if (changed)
    throw unexported(
      session,
      databases.length > 0 ? ` in ${databases.join(', ')}${more > 0 ? ` and ${more} more` : ''}` : '',
    )
}

function unexported({ id }: Session, where: string): HowdahError {
  return new HowdahError(
    'changes_unexported',
    `the session "${id}" holds changes${where} that were not exported; export them, publish alongside it, or discard them ("--discard-changes")`,
    { field: 'discardChanges' },
  )
}
