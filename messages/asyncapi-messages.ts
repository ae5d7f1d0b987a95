/** The messages of the contract in the AsyncAPI document: headers, payload, examples, and whether they are public. */
import type { z } from 'zod'
import { type Json, schemaOf } from './asyncapi-schemas.ts'
import { CONTRACT_VERSION } from './definitions.ts'
import { SESSION_HEADER, VERSION_HEADER } from './envelope.ts'
import { AUDIT_EXAMPLES, COMMAND_EXAMPLES, EVENT_EXAMPLES, REFUSAL_EXAMPLE } from './examples.ts'
import { MESSAGE_ID_HEADER, TYPE_HEADER } from './simple-client.ts'

export interface Definition {
  readonly summary: string
  readonly body: z.ZodType
  readonly reply?: z.ZodType
}

/** Of the names of agents' commands in this document. */
export const TO_AGENT = 'to-agent.'
export const STABILITY = 'x-stability'
export const PUBLIC = 'public'
export const INTERNAL = 'internal'

/** `prefix`: of the names in this document; an event and a command to an agent may have the same type. */
export function messagesOf(definitions: Readonly<Record<string, Definition>>, prefix = ''): Json {
  const messages: Json = {}
  for (const [type, { summary, body, reply }] of Object.entries(definitions)) {
    messages[prefix + type] = {
      ...message(type, summary, body, reply !== undefined),
      ...marksOf(prefix + type),
    }
    if (!reply) continue
    messages[`${prefix}${type}.reply`] = {
      ...message(`${type}.reply`, `Answer to ${type}.`, reply, false),
      ...marksOf(`${prefix}${type}.reply`),
    }
  }
  return messages
}

/** Whether a message is public, and examples of those that are. */
function marksOf(name: string): Json {
  const examples = EXAMPLES[name]
  if (!examples) return { [STABILITY]: INTERNAL }
  return { [STABILITY]: PUBLIC, examples: examples.map((payload) => ({ name, payload })) }
}

const EXAMPLES: Readonly<Record<string, readonly object[]>> = {
  ...Object.fromEntries(
    Object.entries(COMMAND_EXAMPLES).flatMap(([type, { body, reply }]) => [
      [type, [body]],
      [`${type}.reply`, [reply, REFUSAL_EXAMPLE]],
    ]),
  ),
  ...Object.fromEntries(
    Object.entries({ ...EVENT_EXAMPLES, ...AUDIT_EXAMPLES }).map(([type, body]) => [type, [body]]),
  ),
}

const SIMPLE_HEADERS = {
  [TYPE_HEADER]: { type: 'string', description: 'in place of type, from clients that can set headers only' },
  [MESSAGE_ID_HEADER]: { type: 'string', description: 'in place of message_id, likewise' },
}

function message(type: string, summary: string, body: z.ZodType, answered: boolean): Json {
  const isReply = type.endsWith('.reply')
  return {
    name: type,
    title: type,
    summary,
    contentType: 'application/json',
    correlationId: { location: '$message.header#/correlation_id' },
    headers: {
      type: 'object',
      required: [VERSION_HEADER, 'type', 'message_id', ...(isReply ? ['correlation_id'] : [])],
      properties: {
        [VERSION_HEADER]: { const: CONTRACT_VERSION, description: 'version of this contract' },
        [SESSION_HEADER]: {
          type: 'string',
          description: 'the session that the message is about, for whoever traces one; Howdah sets it',
        },
        type: { const: type },
        message_id: {
          type: 'string',
          minLength: 1,
          description: 'idempotency key: messages with the same id are one message',
        },
        correlation_id: {
          type: 'string',
          description:
            'of a request: returned in the reply; default: message_id. Of other messages about a session: its id',
        },
        ...(answered && { reply_to: { type: 'string', description: 'queue that the reply goes to' } }),
        ...(answered && SIMPLE_HEADERS),
        timestamp: { type: 'integer', description: 'seconds since the epoch' },
        app_id: { type: 'string', description: 'the sender' },
        user_id: {
          type: 'string',
          description: 'the user of the connection, which RabbitMQ checks; Howdah always sets it',
        },
      },
    },
    payload: schemaOf(body),
    bindings: { amqp: { contentEncoding: 'utf-8', messageType: type, bindingVersion: '0.3.0' } },
  }
}
