/** Protects the changes in a published instance: they are discarded only when a client says so. */
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { Session } from '../session.ts'
import type { CommandContext } from './command-handlers.ts'

type Context = Pick<CommandContext, 'bus' | 'registry'>

/** For a republish. @throws HowdahError `changes_unexported` | what asking the target agent throws */
export async function requireNoChanges(context: Context, session: Session): Promise<void> {
  const where = await unexportedChanges(context, session)
  if (where !== undefined) {
    throw new HowdahError(
      'changes_unexported',
      `the session "${session.id}" holds changes${where} that were not exported; export them, publish alongside it, or discard them ("--discard-changes")`,
      { field: 'discardChanges' },
    )
  }
}

/** How long a target may take to say whether there are changes, ms: whoever unpublishes waits for it. */
const CHANGES_MS = 10_000

/**
 * For an unpublish that is to discard nothing.
 * @throws HowdahError `changes_unexported`, which a retry can mend where it is the target that does not say
 */
export async function requireKnownUnchanged(context: Context, session: Session): Promise<void> {
  const remedy = 'export them, keep them ("--keep-cache"), or discard them ("--yes")'
  let where: string | undefined
  try {
    where = await unexportedChanges(context, session, CHANGES_MS)
  } catch (cause) {
    const { message } = errorBody(cause)
    throw new HowdahError(
      'changes_unexported',
      `it is not known whether the session "${session.id}" holds changes that were not exported: ${message}; ${remedy}`,
      { field: 'unlessChanged', retryable: true, cause },
    )
  }
  if (where !== undefined) {
    throw new HowdahError(
      'changes_unexported',
      `the session "${session.id}" holds changes${where} that were not exported; ${remedy}`,
      { field: 'unlessChanged' },
    )
  }
}

/**
 * Asks the target agent. @returns where the changes are, as the rest of a clause; undefined: there are none
 * @throws HowdahError what asking the target agent throws
 */
async function unexportedChanges(
  { bus, registry }: Context,
  session: Session,
  timeoutMs?: number,
): Promise<string | undefined> {
  if (session.keepCache) return ''
  if (!session.everPublished || session.desired === 'absent') return undefined
  const agent = registry.target(session.request.target)
  const options = timeoutMs === undefined ? {} : { timeoutMs }
  const reply = await bus.requestAgent(agent, 'session.changes', { session: session.id }, options)
  if (!reply.accepted) throw HowdahError.of(reply.error)
  const { changed, databases, more = 0 } = reply.changes
  if (!changed) return undefined
  return databases.length === 0 ? '' : ` in ${databases.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}
