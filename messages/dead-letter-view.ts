/**
 * What a dead letter tells: why it is there, where it came from and who sent it, and how it is published again. Reads both
 * the copies that Howdah makes (dead-letter.ts) and what RabbitMQ itself has dead-lettered. Everything in it is untrusted.
 * Pure.
 */
import { createHash } from 'node:crypto'
import type { ConsumeMessage } from 'amqplib'
import { DEAD_AT_HEADER } from './dead-letter.ts'
import { SESSION_HEADER, VERSION_HEADER } from './envelope.ts'
import { HowdahError } from './errors.ts'
import { parseJson } from './json.ts'
import { agentOfUser, belongsToOne, isOperator, OPERATORS_COMMANDS } from './permissions.ts'
import type { Publication } from './publication.ts'
import { MESSAGE_ID_HEADER, messageIdOf, TYPE_HEADER, typeOf } from './simple-client.ts'
import {
  AGENTS_EXCHANGE,
  agentRoutingKey,
  COMMANDS_EXCHANGE,
  DEAD_EXCHANGE,
  EVENTS_EXCHANGE,
  reportSender,
} from './topology.ts'

export interface DeadLetter {
  /** Made from what it holds: the same as long as it is there. */
  readonly id: string
  readonly reason: string
  /** Since when it is there; undefined: nobody said so. */
  readonly at: Date | undefined
  readonly type: string | undefined
  readonly messageId: string | undefined
  readonly session: string | undefined
  /** Where it was published, and in which queue it was. */
  readonly exchange: string | undefined
  readonly routingKey: string | undefined
  readonly queue: string | undefined
  /** Of the original, as far as RabbitMQ or the receiver vouched for it. */
  readonly user: string | undefined
  readonly application: string | undefined
  /** Who put it there: the user of that connection, as RabbitMQ checked; of what RabbitMQ dead-lettered its sender. */
  readonly reportedBy: string | undefined
  readonly headers: Readonly<Record<string, unknown>>
  readonly content: Buffer
  /** Of the original, where the copy has less. */
  readonly originalBytes: number | undefined
}

const ID_DIGITS = 12
const TIMEOUT_MS = 30_000
/** Headers that belong to the message and are sent again. RabbitMQ acts on none of them. */
const KEPT_HEADERS = [VERSION_HEADER, SESSION_HEADER, TYPE_HEADER, MESSAGE_ID_HEADER]

export function deadLetter(message: ConsumeMessage): DeadLetter {
  const { properties, fields, content } = message
  const headers = (properties.headers ?? {}) as Record<string, unknown>
  const death = deathOf(headers)
  const isCopy = headers['howdah-reason'] !== undefined
  const original = isCopy
    ? objectOf(parseJson(Buffer.from(text(headers['howdah-original-headers']) ?? '')))
    : headers
  const at = isCopy ? time(headers[DEAD_AT_HEADER]) : death.at
  const reason = text(headers['howdah-reason']) ?? (death.reason ? `RabbitMQ: ${death.reason}` : 'unknown')
  const messageId = text(messageIdOf({ properties: { ...properties, headers: original } }))
  const identity = [messageId, fields.routingKey, reason, at?.toISOString(), content.toString('base64')]
  return {
    id: createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, ID_DIGITS),
    ...{ reason, at, messageId },
    type: text(typeOf({ properties: { ...properties, headers: original } })),
    session: text(original[SESSION_HEADER]),
    exchange: isCopy ? text(headers['howdah-exchange']) : death.exchange,
    routingKey: isCopy ? text(headers['howdah-routing-key']) : fields.routingKey,
    queue: isCopy ? text(headers['howdah-queue']) : death.queue,
    user: text(isCopy ? headers['howdah-user'] : properties.userId),
    application: text(properties.appId),
    reportedBy: text(properties.userId),
    headers: original,
    content,
    originalBytes:
      isCopy && typeof headers['howdah-original-bytes'] === 'number'
        ? headers['howdah-original-bytes']
        : undefined,
  }
}

/**
 * The message as it was sent, with its own id, to where it was sent. Nobody waits for its reply any more.
 * @throws HowdahError `invalid_message` | `message_too_large` | `unauthorized` when it cannot or must not be sent again
 */
export function republication(letter: DeadLetter): Publication {
  const { id, exchange, routingKey, messageId, type, headers, content, originalBytes, application } = letter
  if (!exchange?.startsWith('howdah.') || exchange === DEAD_EXCHANGE.name || routingKey === undefined) {
    throw new HowdahError(
      'invalid_message',
      `the dead letter ${id} does not say to which exchange of Howdah it was sent`,
    )
  }
  if (messageId === undefined) {
    throw new HowdahError(
      'invalid_message',
      `the dead letter ${id} has no message_id, and would be refused again`,
    )
  }
  if (originalBytes !== undefined) {
    throw new HowdahError(
      'message_too_large',
      `of the dead letter ${id} only a part is kept: the message had ${originalBytes} bytes`,
    )
  }
  requireTrustworthy(letter)
  return {
    ...{ exchange, routingKey, content, timeoutMs: TIMEOUT_MS },
    options: {
      ...{ messageId, persistent: true, contentType: 'application/json' },
      ...(type !== undefined && { type }),
      ...(application !== undefined && { appId: application }),
      ...(letter.session !== undefined && { correlationId: letter.session }),
      headers: Object.fromEntries(
        KEPT_HEADERS.filter((name) => headers[name] !== undefined).map((name) => [name, headers[name]]),
      ),
    },
    unroutable: `no queue takes the dead letter ${id}, sent to ${exchange} with the routing key ${routingKey}`,
  }
}

/**
 * An operator who retries a dead letter sends it with an operator's rights, and every agent may write dead letters: what
 * one claims to have received must be what it could have received or sent. The coordinator vouches for everything but a
 * command that its sender had no right to give.
 * @throws HowdahError `unauthorized`
 */
function requireTrustworthy({ id, exchange, routingKey = '', type, user, reportedBy }: DeadLetter): void {
  const refuse = (why: string): HowdahError =>
    new HowdahError('unauthorized', `the dead letter ${id} is not sent again: ${why}`)
  if (reportedBy === undefined) throw refuse('it does not say who put it there')
  const agent = agentOfUser(reportedBy)
  if (agent) {
    const sender = reportSender(routingKey)
    const isOwn =
      (exchange === AGENTS_EXCHANGE.name && routingKey === agentRoutingKey(agent)) ||
      (exchange === EVENTS_EXCHANGE.name && sender?.kind === agent.kind && sender.name === agent.name)
    if (!isOwn) throw refuse(`${reportedBy} put it there, who neither receives nor sends such messages`)
  } else if (belongsToOne(reportedBy) && exchange !== COMMANDS_EXCHANGE.name) {
    throw refuse(`${reportedBy} put it there, who sends commands only`)
  }
  const isOperators = [type, routingKey].some((one) => OPERATORS_COMMANDS.some((command) => command === one))
  if (isOperators && !(user !== undefined && isOperator(user))) {
    throw refuse(`its sender ${user ?? ''} may not send ${type}, which only operators may`)
  }
}

/** What RabbitMQ says about the last time that it dead-lettered a message: https://www.rabbitmq.com/docs/dlx */
function deathOf(headers: Record<string, unknown>) {
  const deaths: unknown = headers['x-death']
  const last = objectOf({ value: Array.isArray(deaths) ? deaths[0] : undefined })
  const at = objectOf({ value: last.time }).value
  return {
    reason: text(last.reason),
    queue: text(last.queue),
    exchange: text(last.exchange),
    at: typeof at === 'number' ? new Date(at * 1000) : undefined,
  }
}

function objectOf(parsed: { readonly value: unknown } | undefined): Record<string, unknown> {
  const value = parsed?.value
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function time(value: unknown): Date | undefined {
  const at = new Date(text(value) ?? '')
  return Number.isNaN(at.getTime()) ? undefined : at
}
