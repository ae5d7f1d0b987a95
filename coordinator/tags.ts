/** The reference and labels that clients give to a session. Pure functions on a session that the caller owns. */
import { HowdahError } from '../messages/errors.ts'
import { MAX_LABELS, type Tags } from '../messages/labels.ts'
import type { Session } from './session.ts'

/**
 * Notes what a command gives: a reference takes the place of the one before, labels are added, and one with an empty
 * value is removed.
 * @throws HowdahError `invalid_message` when there would be too many labels
 */
export function tag(session: Session, { reference, labels }: Tags): void {
  if (reference !== undefined) session.reference = reference
  if (labels === undefined) return
  const kept = Object.entries({ ...session.labels, ...labels }).filter(([, value]) => value !== '')
  if (kept.length > MAX_LABELS) {
    throw new HowdahError(
      'invalid_message',
      `the session "${session.id}" would have ${kept.length} labels; at most ${MAX_LABELS} are allowed`,
      { field: 'labels' },
    )
  }
  session.labels = kept.length > 0 ? Object.fromEntries(kept) : undefined
}

/** What the messages about a session carry of them. */
export function tagsOf({ reference, labels }: Session): Tags {
  return { ...(reference !== undefined && { reference }), ...(labels && { labels }) }
}
