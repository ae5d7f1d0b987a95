/**
 * A message on the wire: its JSON body and AMQP properties are encoded and validated here and nowhere else.
 *
 * Deliveries are untrusted: their size is checked before they are parsed, and errors quote only a little of them.
 */
import type { ConsumeMessage, Options } from 'amqplib'
import type { z } from 'zod'
import type { Delivery } from './bus.ts'
import { isUnderstood, OWN_RANGE } from './contract-version.ts'
import {
  AGENT_COMMANDS,
  COMMANDS,
  COORDINATOR_EVENT_TYPES,
  EVENTS,
  type EventType,
  MAX_COMMAND_BYTES,
  MAX_MESSAGE_BYTES,
  SESSION_EVENT_TYPES,
} from './definitions.ts'
import { type ErrorBody, HowdahError } from './errors.ts'
import { headersJson, MAX_HEADERS_BYTES } from './foreign-headers.ts'
import { parseJson } from './json.ts'
import { messageIdOf, typeOf } from './simple-client.ts'
import {
  type AgentAddress,
  agentRoutingKey,
  CLIENT_REPLY_PREFIX,
  DIRECT_REPLY,
  isClientReplyAddress,
  isCoordinatorReplyAddress,
  reportRoutingKey,
  reportSender,
  sessionEventRoutingKey,
} from './topology.ts'

/** Bytes. Replies may contain whole inventories. */
export const MAX_REPLY_BYTES = 16 * 1024 * 1024

export const VERSION_HEADER = 'howdah-version'
/** The session that a message is about: what an operator traces it by. Nothing is decided by it. */
export const SESSION_HEADER = 'howdah-session'

/** What a consumer accepts: message types, routing keys and reply addresses. */
export interface Expected {
  readonly types: Readonly<Record<string, { readonly body: z.ZodType }>>
  /** Whether the routing key belongs to a message of this type and body. */
  hasKey(routingKey: string, type: string, body: unknown): boolean
  /** The agent that sent the message, where its routing key says so. */
  sender?(routingKey: string): AgentAddress | undefined
  /** Bytes. Default: as of any message. */
  readonly maxBytes?: number
  /** Messages that only tell something: a type of a newer release is ignored. */
  readonly ignoresUnknown?: boolean
  /** Whether replies go to this address. Missing: such messages are not answered. */
  isReplyAddress?(address: string): boolean
}

export const EXPECT_COMMANDS: Expected = {
  types: COMMANDS,
  maxBytes: MAX_COMMAND_BYTES,
  hasKey: (routingKey, type) => routingKey === type,
  isReplyAddress: isClientReplyAddress,
}

export function expectAgentCommands(agent: AgentAddress): Expected {
  return {
    types: AGENT_COMMANDS,
    hasKey: (routingKey) => routingKey === agentRoutingKey(agent),
    isReplyAddress: isCoordinatorReplyAddress,
  }
}

/** What agents report. One that is about the agent itself repeats in its body what the routing key says. */
export const EXPECT_REPORTS: Expected = {
  types: Object.fromEntries(Object.entries(EVENTS).filter(([type]) => !COORDINATOR_EVENT_TYPES.has(type))),
  hasKey(routingKey, type, body) {
    const sender = reportSender(routingKey)
    if (!sender || routingKey !== reportRoutingKey(sender, type as EventType)) return false
    const { kind, name } = body as Partial<AgentAddress>
    return !type.startsWith('agent.') || (kind === sender.kind && name === sender.name)
  },
  sender: reportSender,
  ignoresUnknown: true,
  isReplyAddress: isClientReplyAddress,
}

/** Understood in every version, so that an agent that is too old, or too new, is known by name. */
const PRESENCE: ReadonlySet<string> = new Set(['agent.enroll', 'agent.online', 'agent.offline'])

/** What the coordinator publishes for clients. */
export const EXPECT_SESSION_EVENTS: Expected = {
  types: Object.fromEntries(Object.entries(EVENTS).filter(([type]) => SESSION_EVENT_TYPES.has(type))),
  hasKey: (routingKey, type, body) =>
    routingKey === sessionEventRoutingKey(type as EventType, (body as { session: string }).session),
  ignoresUnknown: true,
}

/** `ignored`: a type of a newer release, which need not be known. */
export type Decoded =
  | { readonly delivery: Delivery; readonly refused?: never; readonly ignored?: never }
  | { readonly refused: ErrorBody; readonly delivery?: never; readonly ignored?: never }
  | { readonly ignored: string; readonly delivery?: never; readonly refused?: never }

/** Validates a delivery against the contract. Never throws. */
export function decodeDelivery(message: ConsumeMessage, expected: Expected): Decoded {
  const { properties, fields, content } = message
  const { maxBytes = MAX_MESSAGE_BYTES } = expected
  if (content.length > maxBytes) {
    const text = `the message has ${content.length} bytes, at most ${maxBytes} are allowed`
    return { refused: { code: 'message_too_large', message: text, field: 'body' } }
  }
  const headerBytes = headersJson(properties.headers).length
  if (headerBytes > MAX_HEADERS_BYTES) {
    const text = `the headers have ${headerBytes} bytes, at most ${MAX_HEADERS_BYTES} are allowed`
    return { refused: { code: 'message_too_large', message: text, field: 'headers' } }
  }
  const type = typeOf(message)
  if (typeof type !== 'string' || type === '') return invalid('type', 'the property type is missing')
  const definition = Object.hasOwn(expected.types, type) ? expected.types[type] : undefined
  if (definition === undefined && expected.ignoresUnknown) return { ignored: short(type, 64) }
  if (definition === undefined) {
    const known = Object.keys(expected.types).join(', ')
    const text = `there is no message type "${short(type, 64)}" here; known are ${known}`
    return { refused: { code: 'unknown_message_type', message: text, field: 'type' } }
  }
  const version: unknown = properties.headers?.[VERSION_HEADER]
  if (!isUnderstood(version) && !PRESENCE.has(type)) {
    const { oldest, newest } = OWN_RANGE
    const range = oldest === newest ? `${newest}` : `from ${oldest} to ${newest}`
    return invalid(VERSION_HEADER, `the header ${VERSION_HEADER} must be ${range}`)
  }
  const messageId = messageIdOf(message)
  if (typeof messageId !== 'string' || messageId === '') {
    return invalid('message_id', 'the property message_id is missing: it is the idempotency key')
  }
  const replyTo = text(properties.replyTo)
  if (replyTo !== undefined && expected.isReplyAddress?.(replyTo) === false) {
    return invalid(
      'reply_to',
      `"${short(replyTo, 64)}" is not answered: reply_to must be ${DIRECT_REPLY}, or a queue of your own whose name begins with ${CLIENT_REPLY_PREFIX}`,
    )
  }
  const parsed = parseJson(content)
  if (parsed === undefined) return invalid('body', 'the body is not JSON in UTF-8')
  const checked = definition.body.safeParse(parsed.value)
  if (!checked.success) return { refused: bodyError(checked.error) }
  if (!expected.hasKey(fields.routingKey, type, checked.data)) {
    return invalid('routing_key', `the routing key does not belong to this ${type}`)
  }
  return {
    delivery: {
      type,
      body: checked.data,
      messageId,
      correlationId: text(properties.correlationId),
      replyTo,
      appId: text(properties.appId),
      userId: text(properties.userId),
      sender: expected.sender?.(fields.routingKey),
      routingKey: fields.routingKey,
      redelivered: fields.redelivered,
    },
  }
}

/** @throws HowdahError `invalid_message` when the body does not match, `message_too_large` */
export function encodeBody(
  schema: z.ZodType,
  type: string,
  body: unknown,
  maxBytes = MAX_MESSAGE_BYTES,
): Buffer {
  const checked = schema.safeParse(body)
  if (!checked.success) {
    const { message, field } = bodyError(checked.error)
    throw new HowdahError('invalid_message', `${type}: ${message}`, field === undefined ? {} : { field })
  }
  const content = Buffer.from(JSON.stringify(checked.data))
  if (content.length > maxBytes) {
    throw new HowdahError(
      'message_too_large',
      `${type} has ${content.length} bytes, at most ${maxBytes} are allowed`,
    )
  }
  return content
}

export interface EnvelopeProperties {
  readonly type: string
  /** What the message says; its session, if it has one, goes into a header. */
  readonly body: unknown
  /** The version of the contract that the receiver must understand; default: the oldest. */
  readonly version?: number | undefined
  readonly messageId: string
  readonly appId: string
  /** Of a request and its reply. Default: the session, by which its messages are found in the RabbitMQ console. */
  readonly correlationId?: string | undefined
  readonly replyTo?: string | undefined
  /** Milliseconds after which RabbitMQ removes the message from its queue. */
  readonly expiresMs?: number | undefined
}

/** Properties of every message that Howdah sends: persistent, JSON, versioned. */
export function messageProperties(properties: EnvelopeProperties): Options.Publish {
  const { type, messageId, appId, body, replyTo, expiresMs } = properties
  const session = sessionIn(body)
  const { version = OWN_RANGE.oldest, correlationId = session } = properties
  return {
    type,
    messageId,
    appId,
    ...(correlationId !== undefined && { correlationId }),
    ...(replyTo !== undefined && { replyTo }),
    ...(expiresMs !== undefined && { expiration: Math.round(expiresMs) }),
    persistent: true,
    contentType: 'application/json',
    timestamp: Math.floor(Date.now() / 1000),
    headers: { [VERSION_HEADER]: version, ...(session !== undefined && { [SESSION_HEADER]: session }) },
  }
}

function sessionIn(body: unknown): string | undefined {
  const { session } = (body ?? {}) as { session?: unknown }
  return typeof session === 'string' ? session : undefined
}

/** The first issue of a body and its field. Bounded, because it can quote the body. */
export function bodyError(error: z.ZodError): ErrorBody {
  const issue = error.issues[0]
  const field = issue ? short(issue.path.join('.'), 100) : ''
  const issueText = short(issue?.message ?? 'it does not match its schema', 300)
  return {
    code: 'invalid_message',
    message: field === '' ? `the body is wrong: ${issueText}` : `${field}: ${issueText}`,
    field: field === '' ? 'body' : field,
  }
}

function invalid(field: string, message: string): Decoded {
  return { refused: { code: 'invalid_message', message, field } }
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function short(value: string, length: number): string {
  return value.length > length ? `${value.slice(0, length)}…` : value
}
