/** `session.list`: a page of summaries, and what the sessions of each target take. */
import { z } from 'zod'
import type { CommandReply } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import { DEFAULT_PAGE, type SessionListBody, type SessionSummary } from '../../messages/session-list.ts'
import type { Session } from '../session.ts'
import { sessionView } from '../session-view.ts'
import type { ListPosition } from '../store/session-query.ts'
import type { Store } from '../store/store.ts'

/** @throws HowdahError `invalid_message` when the cursor is none of ours */
export async function listSessions(
  store: Store,
  body: SessionListBody,
): Promise<CommandReply<'session.list'>> {
  const { all, session, state, labels, limit = DEFAULT_PAGE, cursor, ...others } = body
  const { since, until, changedSince, ...exact } = others
  const wantsSettled = state?.some((one) => one === 'closed' || one === 'failed')
  const [found, usage] = await Promise.all([
    store.sessions({
      ...exact,
      settled: all ?? wantsSettled ?? false,
      idPrefix: session,
      states: state,
      labels,
      since: inUtc(since),
      until: inUtc(until),
      changedSince: inUtc(changedSince),
      after: cursor === undefined ? undefined : positionOf(cursor),
      limit: limit + 1,
    }),
    cursor === undefined ? store.targetUsage() : undefined,
  ])
  const page = found.slice(0, limit)
  const last = page.at(-1)
  const more = found.length > limit
  return {
    accepted: true,
    sessions: page.map(summaryOf),
    more,
    ...(more && last && { cursor: cursorOf(last) }),
    ...(usage && { targets: usage }),
  }
}

/** The schema of the reply leaves out what only `session.show` has, the details of an error too. */
function summaryOf(session: Session): SessionSummary {
  return sessionView(session)
}

const inUtc = (time: string | undefined): string | undefined => time && new Date(time).toISOString()

const Cursor = z.tuple([z.iso.datetime(), z.string().max(40)])

function cursorOf({ createdAt, id }: ListPosition): string {
  return Buffer.from(JSON.stringify([createdAt, id])).toString('base64url')
}

function positionOf(cursor: string): ListPosition {
  try {
    const [createdAt, id] = Cursor.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString()))
    return { createdAt, id }
  } catch (cause) {
    throw new HowdahError('invalid_message', 'the cursor is not one that session.list gave', {
      field: 'cursor',
      cause,
    })
  }
}
