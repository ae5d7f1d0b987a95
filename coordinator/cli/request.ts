/** Requests to the coordinator: a refusal becomes an exception, and a session id may be abbreviated. */
import { randomUUID } from 'node:crypto'
import type { Bus } from '../../messages/bus.ts'
import type { CommandBody, CommandReply, CommandType } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import { MAX_PAGE, type SessionSummary, type TargetUsage } from '../../messages/session-list.ts'
import type { SessionView } from '../../messages/values.ts'
import { pause } from '../../messages/wait.ts'
import type { Deadline } from './deadline.ts'
import { Interruption } from './interruption.ts'
import { isSessionPrefix, type CommandOptions as VerbOptions } from './options.ts'
import { tagsOf } from './tag-options.ts'

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
    options.signal.throwIfAborted()
    try {
      const timeoutMs = Math.max(1, Math.min(options.tryMs ?? 15_000, deadline - Date.now()))
      const reply = await bus.request(type, body, { messageId, signal: options.signal, timeoutMs })
      if (reply.accepted) return reply as Accepted<T>
      throw HowdahError.of(reply.error)
    } catch (error) {
      options.signal.throwIfAborted()
      if (!isTransient(error) || Date.now() + 1000 >= deadline) throw error
      options.onWaiting?.(error)
      await pause(500 + Math.random() * 500, options.signal)
    }
  }
}

export interface CommandOptions extends Pick<AskOptions, 'onWaiting'> {
  readonly deadline: Deadline
  /** As they were given to the verb. */
  readonly options: Pick<VerbOptions, 'messageId' | 'reference' | 'label'>
  /** Milliseconds for all attempts together if there is no --timeout. Default: a minute. */
  readonly usualMs?: number
}

/**
 * Sends a command that changes something. An error that leaves open whether it was accepted says how to find out.
 * @throws HowdahError as `ask`
 */
export async function sendCommand<T extends CommandType>(
  bus: Bus,
  type: T,
  body: CommandBody<T>,
  { deadline, usualMs, options, onWaiting }: CommandOptions,
): Promise<Accepted<T>> {
  const { messageId = randomUUID() } = options
  const asking = { ...deadline.asking(usualMs), messageId, ...(onWaiting && { onWaiting }) }
  try {
    return await ask(bus, type, { ...body, ...tagsOf(options) }, asking)
  } catch (error) {
    const hint = `it may still be carried out; the same command with "--message-id ${messageId}" shows the outcome`
    if (error instanceof Interruption)
      throw new Interruption(error.signal, `${error.message} before the command was answered; ${hint}`)
    if (!isTransient(error)) throw error
    throw new HowdahError(error.code, `${error.message}; ${hint}`, { cause: error })
  }
}

/** Whether the coordinator or the broker is unavailable for now. */
export function isTransient(error: unknown): error is HowdahError {
  return error instanceof HowdahError && (error.code === 'timeout' || error.code === 'broker_unavailable')
}

/** One session. @throws HowdahError `unknown_session` | as `ask` */
export async function showSession(bus: Bus, session: string, deadline: Deadline): Promise<SessionView> {
  return (await ask(bus, 'session.show', { session }, deadline.asking())).session
}

/**
 * The full id of the session with that id or beginning of an id; open sessions are searched before closed ones.
 * @throws HowdahError `unknown_session` | `configuration` when several match
 */
export async function resolveSession(bus: Bus, prefix: string, deadline: Deadline): Promise<string> {
  if (!isSessionPrefix(prefix)) throw noSession(prefix)
  if (await exists(bus, prefix, deadline)) return prefix
  for (const all of [false, true]) {
    const query = { session: prefix, all, limit: SHOWN_MATCHES }
    const { sessions, more } = await ask(bus, 'session.list', query, deadline.asking())
    const [first, ...others] = sessions
    if (first !== undefined && others.length === 0) return first.id
    if (first !== undefined) throw ambiguous(prefix, sessions, more)
  }
  throw noSession(prefix)
}

/** Ids that the error about an ambiguous beginning lists. */
const SHOWN_MATCHES = 8

async function exists(bus: Bus, session: string, deadline: Deadline): Promise<boolean> {
  try {
    await ask(bus, 'session.show', { session }, deadline.asking())
    return true
  } catch (error) {
    if (error instanceof HowdahError && error.code === 'unknown_session') return false
    throw error
  }
}

function noSession(prefix: string): HowdahError {
  return new HowdahError(
    'unknown_session',
    `no session has the id "${prefix}" or one that begins with it; see "howdah sessions --all"`,
    { field: 'session' },
  )
}

function ambiguous(prefix: string, matches: readonly SessionSummary[], more: boolean): HowdahError {
  const ids = matches.map(({ id }) => id).join(', ')
  return new HowdahError(
    'unknown_session',
    `"${prefix}" is the beginning of several sessions: ${ids}${more ? ' and more' : ''}; write one more character`,
    { field: 'session' },
  )
}

/**
 * All sessions that the filter describes, in as many requests as they need; at most `limit`. `more`: there are more than
 * that. `targets`: what the sessions of each target take.
 * @throws HowdahError as `ask`
 */
export async function listSessions(
  bus: Bus,
  filter: Omit<CommandBody<'session.list'>, 'limit' | 'cursor'>,
  asking: AskOptions,
  limit = Number.POSITIVE_INFINITY,
): Promise<{ sessions: SessionSummary[]; more: boolean; targets: readonly TargetUsage[] }> {
  const sessions: SessionSummary[] = []
  let targets: readonly TargetUsage[] = []
  let cursor: string | undefined
  do {
    const page = {
      limit: Math.min(MAX_PAGE, limit - sessions.length),
      ...(cursor !== undefined && { cursor }),
    }
    const reply = await ask(bus, 'session.list', { ...filter, ...page }, asking)
    sessions.push(...reply.sessions)
    targets = reply.targets ?? targets
    cursor = reply.cursor
  } while (cursor !== undefined && sessions.length < limit)
  return { sessions, more: cursor !== undefined, targets }
}
