/**
 * What is entered into the audit stream: each command with its answer, and each change of the state of a session. The ids
 * are given here, once, so that an entry which is written twice is known again. Pure but for ids and times.
 */
import { randomUUID } from 'node:crypto'
import { type AuditEntry, requestOf } from '../messages/audit.ts'
import type { CommandDelivery } from '../messages/bus.ts'
import type { ErrorBody } from '../messages/errors.ts'
import type { Tags } from '../messages/labels.ts'
import { type Announcement, announcementId } from './announcements.ts'

const MAX_TEXT = 500

export function commandEntry(delivery: CommandDelivery, reply: object): AuditEntry {
  const { type: command, body, messageId, userId, appId } = delivery
  const { error, session = askedFor(body) } = reply as { error?: ErrorBody; session?: string }
  const { reference, labels } = body as Tags
  return {
    type: 'audit.command',
    body: {
      ...{ id: randomUUID(), at: new Date().toISOString(), command, messageId },
      sender: {
        ...(userId !== undefined && { user: userId }),
        ...(appId !== undefined && { application: short(appId) }),
      },
      outcome: error === undefined ? 'accepted' : 'refused',
      ...(error && { error: withoutDetails(error) }),
      ...(session !== undefined && { session }),
      request: requestOf(body),
      ...(reference !== undefined && { reference }),
      ...(labels !== undefined && { labels }),
    },
  }
}

/** The entries that changes of sessions make: one for each state that is announced, with the id of the announcement. */
export function sessionEntries(announcements: readonly Announcement[]): AuditEntry[] {
  return announcements.flatMap((announcement) => {
    if (announcement.type !== 'session.state') return []
    const { connection: _, reason: __, error, ...body } = announcement.body
    const id = announcementId(announcement)
    return [
      {
        type: 'audit.session',
        body: { ...body, id, ...(error && { error: withoutDetails(error) }) },
      },
    ]
  })
}

function askedFor(body: object): string | undefined {
  return 'session' in body && typeof body.session === 'string' ? body.session : undefined
}

function withoutDetails({ details: _, ...error }: ErrorBody): ErrorBody {
  return { ...error, message: short(error.message) }
}

function short(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text
}
