/** Requests to the coordinator: a refusal becomes an exception, and a session id may be abbreviated. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bus } from '../../messages/bus.ts'
import type { CommandBody, CommandReply, CommandType } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'
import { isSessionPrefix } from './options.ts'

export type Accepted<T extends CommandType> = Extract<CommandReply<T>, { accepted: true }>

export interface AskOptions {
  readonly messageId?: string | undefined
  readonly signal: AbortSignal
  /** Milliseconds for all attempts together. */
  readonly deadlineMs?: number
  /** Milliseconds for one attempt. */
  readonly tryMs?: number
  /** Called before each further attempt. */
  readonly onWaiting?: (error: HowdahError) => void
}

/**
 * Sends a command until it is answered. A coordinator that is restarting takes it later; the same message id makes all
 * attempts the same request.
 * @throws HowdahError the refusal as it came | `unroutable` | `timeout` | `broker_unavailable` | `broker_blocked`, which
 *   is not retried: an operator has to free space first
 */
export async function ask<T extends CommandType>(
  bus: Bus,
  type: T,
  body: CommandBody<T>,
  options: AskOptions,
): Promise<Accepted<T>> {
  const messageId = options.messageId ?? randomUUID()
  const deadline = Date.now() + (options.deadlineMs ?? 60_000)
  for (;;) {
    try {
      const timeoutMs = Math.max(1, Math.min(options.tryMs ?? 15_000, deadline - Date.now()))
      const reply = await bus.request(type, body, { messageId, signal: options.signal, timeoutMs })
      if (reply.accepted) return reply as Accepted<T>
      throw HowdahError.of(reply.error)
    } catch (error) {
      if (!isTransient(error) || options.signal.aborted || Date.now() + 1000 >= deadline) throw error
      options.onWaiting?.(error)
      await sleep(500 + Math.random() * 500, undefined, { signal: options.signal })
    }
  }
}

/** Whether the coordinator or the broker is unavailable for now. */
export function isTransient(error: unknown): error is HowdahError {
  return error instanceof HowdahError && (error.code === 'timeout' || error.code === 'broker_unavailable')
}

/** One session. @throws HowdahError `unknown_session` | as `ask` */
export async function showSession(bus: Bus, session: string, signal: AbortSignal): Promise<SessionView> {
  return (await ask(bus, 'session.show', { session }, { signal })).session
}

/**
 * The full id of the session with that id or beginning of an id; open sessions are searched before closed ones.
 * @throws HowdahError `unknown_session` | `configuration` when several match
 */
export async function resolveSession(bus: Bus, prefix: string, signal: AbortSignal): Promise<string> {
  if (isSessionPrefix(prefix) && (await exists(bus, prefix, signal))) return prefix
  const open = await ask(bus, 'session.list', {}, { signal })
  if (open.sessions.some(({ id }) => id.startsWith(prefix))) return matchSession(open.sessions, prefix)
  const all = await ask(bus, 'session.list', { all: true }, { signal })
  return matchSession(all.sessions, prefix)
}

async function exists(bus: Bus, session: string, signal: AbortSignal): Promise<boolean> {
  try {
    await ask(bus, 'session.show', { session }, { signal })
    return true
  } catch (error) {
    if (error instanceof HowdahError && error.code === 'unknown_session') return false
    throw error
  }
}

function matchSession(sessions: readonly SessionView[], prefix: string): string {
  const matches = isSessionPrefix(prefix) ? sessions.filter(({ id }) => id.startsWith(prefix)) : []
  const [first, second] = matches
  if (first === undefined) {
    throw new HowdahError(
      'unknown_session',
      `no session has the id "${prefix}" or one that begins with it; see "howdah sessions --all"`,
      { field: 'session' },
    )
  }
  if (second !== undefined) {
    const ids = matches.slice(0, 8).map(({ id }) => id)
    const more = matches.length > ids.length ? ` and ${matches.length - ids.length} more` : ''
    throw new HowdahError(
      'unknown_session',
      `"${prefix}" is the beginning of several sessions: ${ids.join(', ')}${more}; write one more character`,
      { field: 'session' },
    )
  }
  return first.id
}
