/**
 * What a change of a session has to tell the world: the events of the coordinator, derived from the difference between a
 * session before and after the change. Pure, so that code that changes a session need not announce anything itself.
 */
import type { EventBody } from '../messages/definitions.ts'
import type { Session } from './session.ts'

export type Announcement = {
  [T in 'session.state' | 'session.warning']: { readonly type: T; readonly body: EventBody<T> }
}['session.state' | 'session.warning']

/** `before`: undefined for a new session. */
export function announcementsOf(before: Session | undefined, after: Session): Announcement[] {
  return [...stepWarnings(before, after), ...spaceWarnings(before, after), ...stateChange(before, after)]
}

function stateChange(before: Session | undefined, after: Session): Announcement[] {
  const { id: session, state } = after
  if (state === before?.state) return []
  const error = after.failure ?? after.error
  const body = {
    ...{ session, state },
    ...(before && { previous: before.state }),
    ...(error && { error, reason: error.message }),
  }
  return [{ type: 'session.state', body }]
}

/** The warnings of its steps. */
function stepWarnings(before: Session | undefined, after: Session): Announcement[] {
  const known = new Set(before?.warnings)
  return after.warnings
    .filter((warning) => !known.has(warning))
    .map((message) => ({
      type: 'session.warning',
      body: { session: after.id, about: 'publish', level: 'note', message, at: after.updatedAt },
    }))
}

/** The warnings of space and expiry, those of space with the usage that raised them. */
function spaceWarnings(before: Session | undefined, after: Session): Announcement[] {
  const known = new Set((before?.warningHistory ?? []).map(({ about, at }) => `${about} ${at}`))
  return (after.warningHistory ?? [])
    .filter(({ about, at }) => !known.has(`${about} ${at}`))
    .map((warning) => ({
      type: 'session.warning',
      body: {
        session: after.id,
        ...warning,
        ...(warning.about !== 'expiry' && after.usage && { usage: after.usage }),
      },
    }))
}
