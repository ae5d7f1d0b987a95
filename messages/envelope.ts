/**
 * A message on the wire: JSON body and AMQP properties, made and checked here and nowhere else.
 *
 * What comes in is untrusted: it is bounded before it is parsed, and what is said about it never repeats more than a
 * little of it.
 */
import type { ConsumeMessage, Options } from 'amqplib'
import type { z } from 'zod'
import type { Delivery } from './bus.ts'
import {
  AGENT_COMMANDS,
  COMMANDS,
  CONTRACT_VERSION,
  EVENTS,
  type EventBody,
  type EventType,
  MAX_MESSAGE_BYTES,
} from './definitions.ts'
import { type ErrorBody, HowdahError } from './errors.ts'
import { parseJson } from './json.ts'
import { type AgentAddress, agentRoutingKey, eventRoutingKey } from './topology.ts'

/** Replies may hold whole inventories. Bytes. */
export const MAX_REPLY_BYTES = 16 * 1024 * 1024

export const VERSION_HEADER = 'howdah-version'

/** What a consumer takes: its message types and where each belongs. */
export interface Expected {
  readonly types: Readonly<Record<string, { readonly body: z.ZodType }>>
  /** The routing key that a message of this type and body must have come with. */
  routingKey(type: string, body: unknown): string
}

export const EXPECT_COMMANDS: Expected = { types: COMMANDS, routingKey: (type) => type }

export function expectAgentCommands(agent: AgentAddress): Expected {
  return { types: AGENT_COMMANDS, routingKey: () => agentRoutingKey(agent) }
}

export const EXPECT_EVENTS: Expected = {
  types: EVENTS,
  routingKey: (type, body) => eventRoutingKey(type as EventType, body as EventBody<EventType>),
}

export type Decoded =
  | { readonly delivery: Delivery; readonly refused?: never }
  | { readonly refused: ErrorBody; readonly delivery?: never }

/** Checks a delivery against the contract. Never throws. */
export function decodeDelivery(message: ConsumeMessage, expected: Expected): Decoded {
  const { properties, fields, content } = message
  if (content.length > MAX_MESSAGE_BYTES) {
    const text = `the message has ${content.length} bytes, at most ${MAX_MESSAGE_BYTES} are allowed`
    return { refused: { code: 'message_too_large', message: text, field: 'body' } }
  }
  const type: unknown = properties.type
  if (typeof type !== 'string' || type === '') return invalid('type', 'the property type is missing')
  const definition = Object.hasOwn(expected.types, type) ? expected.types[type] : undefined
  if (definition === undefined) {
    const known = Object.keys(expected.types).join(', ')
    const text = `there is no message type "${short(type, 64)}" here; known are ${known}`
    return { refused: { code: 'unknown_message_type', message: text, field: 'type' } }
  }
  const version: unknown = properties.headers?.[VERSION_HEADER]
  // Simple clients can set headers as text only.
  if (version !== CONTRACT_VERSION && version !== String(CONTRACT_VERSION)) {
    return invalid(VERSION_HEADER, `the header ${VERSION_HEADER} must be ${CONTRACT_VERSION}`)
  }
  const messageId: unknown = properties.messageId
  if (typeof messageId !== 'string' || messageId === '') {
    return invalid('message_id', 'the property message_id is missing: it is the idempotency key')
  }
  const parsed = parseJson(content)
  if (parsed === undefined) return invalid('body', 'the body is not JSON in UTF-8')
  const checked = definition.body.safeParse(parsed.value)
  if (!checked.success) return { refused: bodyError(checked.error) }
  if (fields.routingKey !== expected.routingKey(type, checked.data)) {
    return invalid('routing_key', `the routing key does not belong to this ${type}`)
  }
  return {
    delivery: {
      type,
      body: checked.data,
      messageId,
      correlationId: text(properties.correlationId),
      replyTo: text(properties.replyTo),
      appId: text(properties.appId),
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
  readonly messageId: string
  readonly appId: string
  readonly correlationId?: string | undefined
  readonly replyTo?: string | undefined
}

/** Properties of every message of ours: persistent, JSON, versioned. */
export function messageProperties(properties: EnvelopeProperties): Options.Publish {
  const { type, messageId, appId, correlationId, replyTo } = properties
  return {
    type,
    messageId,
    appId,
    ...(correlationId !== undefined && { correlationId }),
    ...(replyTo !== undefined && { replyTo }),
    persistent: true,
    contentType: 'application/json',
    timestamp: Math.floor(Date.now() / 1000),
    headers: { [VERSION_HEADER]: CONTRACT_VERSION },
  }
}

/** The first thing that is wrong with a body, and where; bounded, because it can quote the body. */
export function bodyError(error: z.ZodError): ErrorBody {
  const issue = error.issues[0]
  const field = issue ? short(issue.path.join('.'), 100) : ''
  const said = short(issue?.message ?? 'it does not match its schema', 300)
  return {
    code: 'invalid_message',
    message: field === '' ? `the body is wrong: ${said}` : `${field}: ${said}`,
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
