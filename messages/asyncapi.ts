/**
 * Generates the AsyncAPI 3 document for integrators from the definitions and the topology, and from nothing else.
 * Source of the format: https://www.asyncapi.com/docs/reference/specification/v3.0.0 and its AMQP binding 0.3.0.
 */
import { z } from 'zod'
import * as definitions from './definitions.ts'
import {
  AGENT_COMMANDS,
  COMMANDS,
  CONTRACT_VERSION,
  COORDINATOR_EVENT_TYPES,
  EVENTS,
  MAX_MESSAGE_BYTES,
  QUERY_TYPES,
  SESSION_EVENT_TYPES,
} from './definitions.ts'
import { MAX_REPLY_BYTES, VERSION_HEADER } from './envelope.ts'
import * as exporting from './exports.ts'
import { MAX_HEADERS_BYTES } from './foreign-headers.ts'
import * as labels from './labels.ts'
import { openInstruction, openReport } from './open-schema.ts'
import * as primitives from './primitives.ts'
import * as steps from './steps.ts'
import {
  AGENTS_EXCHANGE,
  agentQueue,
  CLIENT_REPLY_PREFIX,
  COMMANDS_EXCHANGE,
  COORDINATOR_COMMANDS,
  COORDINATOR_EVENTS,
  COORDINATOR_HEARTBEATS,
  COORDINATOR_QUERIES,
  DEAD_LETTERS,
  DIRECT_REPLY,
  EVENTS_EXCHANGE,
  type Exchange,
  type Queue,
  REPLIES_EXCHANGE,
} from './topology.ts'
import * as values from './values.ts'

type Json = Record<string, unknown>

interface Definition {
  readonly summary: string
  readonly body: z.ZodType
  readonly reply?: z.ZodType
}

const REPORT = '.report'
const INSTRUCTION = '.instruction'

/** Every schema that the contract exports by name becomes a component, and so do its open forms where they differ. */
const named = z.registry<{ id: string }>()
const contract = Object.entries({
  ...primitives,
  ...values,
  ...exporting,
  ...labels,
  ...steps,
  ...definitions,
})
for (const [id, value] of contract.sort(([one], [other]) => (one < other ? -1 : 1))) {
  if (!(value instanceof z.ZodType)) continue
  named.add(value, { id })
  if (!named.has(openReport(value))) named.add(openReport(value), { id: `${id}${REPORT}` })
  if (!named.has(openInstruction(value))) named.add(openInstruction(value), { id: `${id}${INSTRUCTION}` })
}

/** The document, ready for `JSON.stringify`. Deterministic. */
export function asyncApiDocument(): Json {
  return withUsedComponents(wholeDocument())
}

/** Without the schemas that nothing refers to; a form that is the only one left has the plain name. */
function withUsedComponents(document: Json): Json {
  const { schemas, ...components } = document.components as { schemas: Record<string, Json> }
  const used = new Set<string>()
  const look = (part: Json): void => {
    for (const [, id = ''] of JSON.stringify(part).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (used.has(id)) continue
      used.add(id)
      look(schemas[id] ?? {})
    }
  }
  look({ ...document, components })
  const kept = Object.fromEntries(Object.entries(schemas).filter(([id]) => used.has(id)))
  let text = JSON.stringify({ ...document, components: { ...components, schemas: kept } })
  for (const id of used) {
    const plain = id.replace(/\.(report|instruction)$/, '')
    const forms = [plain, `${plain}${REPORT}`, `${plain}${INSTRUCTION}`].filter((form) => used.has(form))
    if (id === plain || forms.length > 1) continue
    text = text.replaceAll(`/${id}"`, `/${plain}"`).replaceAll(`"${id}":`, `"${plain}":`)
  }
  return JSON.parse(text) as Json
}

function wholeDocument(): Json {
  const messages: Json = { ...messagesOf(COMMANDS), ...messagesOf(AGENT_COMMANDS), ...messagesOf(EVENTS) }
  const replies = Object.keys(messages).filter((name) => name.endsWith('.reply'))
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Howdah',
      version: `${CONTRACT_VERSION}.0.0`,
      description: [
        'Publishes PostgreSQL instances straight from a backup repository.',
        'Messages are persistent, with a JSON body of at most',
        `${MAX_MESSAGE_BYTES} bytes and headers of at most ${MAX_HEADERS_BYTES}, published as mandatory and with publisher confirms.`,
        `A reply has at most ${MAX_REPLY_BYTES} bytes; what would have more is answered with the error message_too_large.`,
        'The headers below that are not howdah-version are AMQP basic properties of the same name.',
      ].join(' '),
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    channels: {
      ...Object.fromEntries(
        Object.entries<Definition>(COMMANDS).map(([type, { summary }]) => [
          type,
          channel(type, COMMANDS_EXCHANGE, summary, [type]),
        ]),
      ),
      agents: {
        ...channel('{kind}.{agent}', AGENTS_EXCHANGE, AGENTS_EXCHANGE.summary, Object.keys(AGENT_COMMANDS)),
        parameters: AGENT_PARAMETERS,
      },
      ...Object.fromEntries(
        Object.entries<Definition>(EVENTS)
          .filter(([type]) => SESSION_EVENT_TYPES.has(type))
          .map(([type, { summary }]) => [type, sessionEventChannel(type, summary)]),
      ),
      reports: {
        ...channel(
          'agent.{kind}.{agent}.{event}',
          EVENTS_EXCHANGE,
          'What agents report to the coordinator, which passes on to clients what is about sessions.',
          REPORTS,
        ),
        parameters: { ...AGENT_PARAMETERS, event: { description: 'The type without its first word.' } },
      },
      replies: {
        address: null,
        title: 'Replies',
        description: `To clients: the default exchange, with reply_to of the command as routing key, which is ${DIRECT_REPLY} or the name of a queue of their own that begins with ${CLIENT_REPLY_PREFIX}. To the coordinator: the exchange ${REPLIES_EXCHANGE.name}.`,
        messages: references(replies),
      },
      [COORDINATOR_COMMANDS.name]: queueChannel(
        COORDINATOR_COMMANDS,
        Object.keys(COMMANDS).filter((type) => !QUERY_TYPES.has(type)),
      ),
      [COORDINATOR_QUERIES.name]: queueChannel(COORDINATOR_QUERIES, [...QUERY_TYPES]),
      [COORDINATOR_EVENTS.name]: queueChannel(
        COORDINATOR_EVENTS,
        REPORTS.filter((type) => !type.startsWith('agent.')),
      ),
      [COORDINATOR_HEARTBEATS.name]: queueChannel(
        COORDINATOR_HEARTBEATS,
        REPORTS.filter((type) => type.startsWith('agent.')),
      ),
      'howdah.agent': {
        ...queueChannel(agentQueue({ kind: 'mount', name: '{agent}' }), Object.keys(AGENT_COMMANDS)),
        address: 'howdah.{kind}.{agent}',
        description: 'Commands to one agent.',
        parameters: AGENT_PARAMETERS,
      },
      [DEAD_LETTERS.name]: queueChannel(DEAD_LETTERS, []),
    },
    operations: {
      ...Object.fromEntries(
        Object.entries<Definition>(COMMANDS).map(([type, definition]) => [
          type,
          operation('receive', type, type, definition),
        ]),
      ),
      ...Object.fromEntries(
        Object.entries<Definition>(AGENT_COMMANDS).map(([type, definition]) => [
          type,
          operation('send', type, 'agents', definition),
        ]),
      ),
      ...Object.fromEntries(
        Object.entries<Definition>(EVENTS)
          .filter(([type]) => SESSION_EVENT_TYPES.has(type))
          .map(([type, definition]) => [type, operation('send', type, type, definition)]),
      ),
      // What agents report: the same message may be a report and an event for clients.
      ...Object.fromEntries(
        REPORTS.map((type) => [
          `report.${type}`,
          operation('receive', type, 'reports', (EVENTS as Record<string, Definition>)[type] as Definition),
        ]),
      ),
    },
    components: { messages, schemas: componentSchemas() },
  }
}

const REPORTS = Object.keys(EVENTS).filter((type) => !COORDINATOR_EVENT_TYPES.has(type))

const AGENT_PARAMETERS = {
  kind: { description: 'What the agent does.', enum: ['mount', 'target'] },
  agent: { description: 'Name of the agent.' },
}

function messagesOf(definitions: Readonly<Record<string, Definition>>): Json {
  const messages: Json = {}
  for (const [type, { summary, body, reply }] of Object.entries(definitions)) {
    messages[type] = message(type, summary, body, reply !== undefined)
    if (reply) messages[`${type}.reply`] = message(`${type}.reply`, `Answer to ${type}.`, reply, false)
  }
  return messages
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
        type: { const: type },
        message_id: {
          type: 'string',
          minLength: 1,
          description: 'idempotency key: messages with the same id are one message',
        },
        correlation_id: { type: 'string', description: 'returned in the reply; default: message_id' },
        ...(answered && { reply_to: { type: 'string', description: 'queue that the reply goes to' } }),
        timestamp: { type: 'integer', description: 'seconds since the epoch' },
        app_id: { type: 'string', description: 'the sender' },
      },
    },
    payload: schemaOf(body),
    bindings: { amqp: { contentEncoding: 'utf-8', messageType: type, bindingVersion: '0.3.0' } },
  }
}

function schemaOf(schema: z.ZodType): Json {
  const id = named.get(schema)?.id
  if (id !== undefined) return { $ref: componentUri(id) }
  const {
    $schema,
    definitions: _,
    ...rest
  } = z.toJSONSchema(schema, {
    target: 'draft-7',
    io: 'input',
    metadata: named,
  }) as Json
  return withComponents(rest)
}

function componentSchemas(): Json {
  const { schemas } = z.toJSONSchema(named, { target: 'draft-7', io: 'input', uri: componentUri })
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema, $id, id: _, ...schema }]) => [id, schema]),
  )
}

function componentUri(id: string): string {
  return `#/components/schemas/${id}`
}

/** Zod puts shared schemas into the `definitions` of each schema; in this document they are components. */
function withComponents(schema: Json): Json {
  return JSON.parse(
    JSON.stringify(schema).replaceAll(/"#\/(?:\$defs|definitions)\//g, '"#/components/schemas/'),
  ) as Json
}

function channel(address: string, exchange: Exchange, description: string, types: string[]): Json {
  const { name, type } = exchange
  return {
    address,
    description,
    messages: references(types),
    bindings: {
      amqp: {
        is: 'routingKey',
        exchange: { name, type, durable: true, autoDelete: false, vhost: '/' },
        bindingVersion: '0.3.0',
      },
    },
  }
}

function sessionEventChannel(type: string, summary: string): Json {
  return {
    ...channel(`session.{session}.${type.slice('session.'.length)}`, EVENTS_EXCHANGE, summary, [type]),
    parameters: { session: { description: 'Id of the session.' } },
  }
}

function queueChannel(queue: Queue, types: string[]): Json {
  return {
    address: queue.name,
    description: queue.summary,
    messages: references(types),
    bindings: {
      amqp: {
        is: 'queue',
        queue: { name: queue.name, durable: true, exclusive: false, autoDelete: false, vhost: '/' },
        bindingVersion: '0.3.0',
      },
    },
    'x-arguments': queue.arguments,
    'x-bindings': queue.bindings.map(({ exchange, pattern }) => ({ exchange: exchange.name, pattern })),
  }
}

function operation(
  action: 'send' | 'receive',
  type: string,
  channelName: string,
  { summary, reply }: Definition,
): Json {
  const channelRef = `#/channels/${channelName}`
  return {
    action,
    summary,
    channel: { $ref: channelRef },
    messages: [{ $ref: `${channelRef}/messages/${type}` }],
    ...(reply && {
      reply: {
        address: { location: '$message.header#/reply_to' },
        channel: { $ref: '#/channels/replies' },
        messages: [{ $ref: `#/channels/replies/messages/${type}.reply` }],
      },
    }),
  }
}

function references(types: readonly string[]): Json {
  return Object.fromEntries(types.map((type) => [type, { $ref: `#/components/messages/${type}` }]))
}
