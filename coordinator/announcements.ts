/**
 * What a change of a session has to tell the world: the events of the coordinator, derived from the difference between a
 * session before and after the change. Pure, so that code that changes a session need not announce anything itself.
 */
import type { EventBody } from '../messages/definitions.ts'
import type { Session } from './session.ts'
import { tagsOf } from './tags.ts'

/** An event to publish. `number`: tells apart those of one version of the session, and orders them. */
export type Announcement = {
  [T in 'session.state' | 'session.warning']: {
    readonly type: T
    readonly number: number
    readonly body: EventBody<T>
  }
}['session.state' | 'session.warning']

type News = {
  [T in Announcement['type']]: { readonly type: T; readonly body: NewsBody<T> }
}[Announcement['type']]
type NewsBody<T extends Announcement['type']> = Omit<
  EventBody<T>,
  'session' | 'version' | 'reference' | 'labels'
>

/** `before`: undefined for a new session. `version`: the one that the session is saved as. */
export function announcementsOf(
  before: Session | undefined,
  after: Session,
  version: number,
): Announcement[] {
  const about = { session: after.id, version, ...tagsOf(after) }
  const news = [
    ...stepWarnings(before, after),
    ...spaceWarnings(before, after),
    ...stateChange(before, after),
  ]
  return news.map(({ type, body }, number) => ({ type, number, body: { ...about, ...body } }) as Announcement)
}

/** Its `message_id`, the same whenever it is published again. */
export function announcementId({ number, body: { session, version } }: Announcement): string {
  return `${session}.v${version}.${number}`
}

/** For sorting: in the order in which they came about. Of one session only. */
export function compareAnnouncements(one: Announcement, other: Announcement): number {
  return one.body.version - other.body.version || one.number - other.number
}

function stateChange(before: Session | undefined, after: Session): News[] {
  const { state, results, updatedAt: at } = after
  if (state === before?.state) return []
  const { repository, instance, target } = after.request
  const error = after.failure ?? after.error
  const body = {
    ...{ at, state, repository, instance, target },
    ...(before && { previous: before.state }),
    ...(state === 'published' && results.recover && { connection: results.recover.connection }),
    ...(error && { error, reason: error.message }),
  }
  return [{ type: 'session.state', body }]
}

/** The warnings of its steps. */
function stepWarnings(before: Session | undefined, after: Session): News[] {
  const known = new Set(before?.warnings)
  return after.warnings
    .filter((warning) => !known.has(warning))
    .map((message) => ({
      type: 'session.warning',
      body: { about: 'publish', level: 'note', message, at: after.updatedAt },
    }))
}

/** The warnings of space and expiry, those of space with the usage that raised them. */
function spaceWarnings(before: Session | undefined, after: Session): News[] {
  const known = new Set((before?.warningHistory ?? []).map(({ about, at }) => `${about} ${at}`))
  return (after.warningHistory ?? [])
    .filter(({ about, at }) => !known.has(`${about} ${at}`))
    .map((warning) => ({
      type: 'session.warning',
      body: { ...warning, ...(warning.about !== 'expiry' && after.usage && { usage: after.usage }) },
    }))
}
