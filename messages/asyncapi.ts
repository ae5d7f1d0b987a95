/**
 * Generates the AsyncAPI 3 document for integrators from the definitions and the topology, and from nothing else.
 * Source of the format: https://www.asyncapi.com/docs/reference/specification/v3.0.0 and its AMQP binding 0.3.0.
 */
import { channel, queueChannel, references, sessionEventChannel, VIRTUAL_HOST } from './asyncapi-channels.ts'
import { type Definition, INTERNAL, messagesOf, PUBLIC, STABILITY, TO_AGENT } from './asyncapi-messages.ts'
import { componentSchemas, type Json, withUsedComponents } from './asyncapi-schemas.ts'
import { AUDIT_ENTRIES } from './audit.ts'
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
import { MAX_REPLY_BYTES } from './envelope.ts'
import { MAX_HEADERS_BYTES } from './foreign-headers.ts'
import {
  AGENTS_EXCHANGE,
  AUDIT,
  agentQueue,
  CLIENT_REPLY_PREFIX,
  COMMANDS_EXCHANGE,
  COORDINATOR_COMMANDS,
  COORDINATOR_EVENTS,
  COORDINATOR_HEARTBEATS,
  COORDINATOR_OBSERVATIONS,
  COORDINATOR_QUERIES,
  DEAD_LETTERS,
  DIRECT_REPLY,
  EVENTS_EXCHANGE,
  REPLIES_EXCHANGE,
  takesReports,
} from './topology.ts'

const SERVERS = {
  broker: {
    host: 'broker.example:5671',
    pathname: `/${VIRTUAL_HOST}`,
    protocol: 'amqps',
    protocolVersion: '0.9.1',
    description:
      'RabbitMQ 3.10 or later, in any virtual host. Without TLS, on loopback only: amqp, port 5672. Each client has a user of its own.',
    security: [{ $ref: '#/components/securitySchemes/user' }],
  },
}

const SECURITY = {
  user: { type: 'userPassword', description: 'A user of RabbitMQ with the permissions of a client.' },
}

/** The document, ready for `JSON.stringify`. Deterministic. */
export function asyncApiDocument(): Json {
  return withUsedComponents(wholeDocument())
}

function wholeDocument(): Json {
  const messages: Json = {
    ...messagesOf(COMMANDS),
    ...messagesOf(AGENT_COMMANDS, TO_AGENT),
    ...messagesOf(EVENTS),
    ...messagesOf(AUDIT_ENTRIES),
  }
  const replies = Object.keys(messages).filter((name) => name.endsWith('.reply'))
  const agentCommands = Object.keys(AGENT_COMMANDS).map((type) => TO_AGENT + type)
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
        'The headers below that do not begin with howdah- are AMQP basic properties of the same name.',
        `What is marked "${STABILITY}": "${PUBLIC}" stays compatible; what is "${INTERNAL}" passes between coordinator and`,
        'agents, and may change with any release.',
      ].join(' '),
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    servers: SERVERS,
    defaultContentType: 'application/json',
    channels: {
      ...Object.fromEntries(
        Object.entries<Definition>(COMMANDS).map(([type, { summary }]) => [
          type,
          channel(type, COMMANDS_EXCHANGE, summary, [type]),
        ]),
      ),
      agents: {
        ...channel('{kind}.{agent}', AGENTS_EXCHANGE, AGENTS_EXCHANGE.summary, agentCommands),
        parameters: AGENT_PARAMETERS,
        [STABILITY]: INTERNAL,
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
        [STABILITY]: INTERNAL,
      },
      replies: {
        address: null,
        title: 'Replies',
        [STABILITY]: PUBLIC,
        description: `To clients: the default exchange, with reply_to of the command as routing key, which is ${DIRECT_REPLY} or the name of a queue of their own that begins with ${CLIENT_REPLY_PREFIX}. To the coordinator: the exchange ${REPLIES_EXCHANGE.name}.`,
        messages: references(replies),
      },
      [COORDINATOR_COMMANDS.name]: queueChannel(
        COORDINATOR_COMMANDS,
        Object.keys(COMMANDS).filter((type) => !QUERY_TYPES.has(type)),
      ),
      [COORDINATOR_QUERIES.name]: queueChannel(COORDINATOR_QUERIES, [...QUERY_TYPES]),
      ...Object.fromEntries(
        [COORDINATOR_EVENTS, COORDINATOR_HEARTBEATS, COORDINATOR_OBSERVATIONS].map((queue) => [
          queue.name,
          queueChannel(
            queue,
            REPORTS.filter((type) => takesReports(queue, type)),
          ),
        ]),
      ),
      'howdah.agent': {
        ...queueChannel(agentQueue({ kind: 'mount', name: '{agent}' }), agentCommands),
        address: 'howdah.{kind}.{agent}',
        description: 'Commands to one agent.',
        parameters: AGENT_PARAMETERS,
      },
      [DEAD_LETTERS.name]: queueChannel(DEAD_LETTERS, []),
      [AUDIT.name]: queueChannel(AUDIT, Object.keys(AUDIT_ENTRIES)),
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
          TO_AGENT + type,
          operation('send', TO_AGENT + type, 'agents', definition),
        ]),
      ),
      ...Object.fromEntries(
        Object.entries<Definition>(EVENTS)
          .filter(([type]) => SESSION_EVENT_TYPES.has(type))
          .map(([type, definition]) => [type, operation('send', type, type, definition)]),
      ),
      ...Object.fromEntries(
        Object.entries<Definition>(AUDIT_ENTRIES).map(([type, definition]) => [
          type,
          operation('send', type, AUDIT.name, definition),
        ]),
      ),
      // What agents report: the same message may be a report and an event for clients.
      ...Object.fromEntries(
        REPORTS.map((type) => [
          `report.${type}`,
          operation('receive', type, 'reports', (EVENTS as Record<string, Definition>)[type] as Definition),
        ]),
      ),
    },
    components: { messages, schemas: componentSchemas(), securitySchemes: SECURITY },
  }
}

const REPORTS = Object.keys(EVENTS).filter((type) => !COORDINATOR_EVENT_TYPES.has(type))

const AGENT_PARAMETERS = {
  kind: { description: 'What the agent does.', enum: ['mount', 'target'] },
  agent: { description: 'Name of the agent.' },
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
