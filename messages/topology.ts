/**
 * The exchanges, queues, bindings and routing keys of the contract. The coordinator declares them from this table, and the
 * AsyncAPI document is generated from it. Uses no feature that RabbitMQ 3.10 lacks or RabbitMQ 4 removed.
 *
 * It is made for least privilege. Agents and clients publish nothing to the default exchange, which reaches every queue;
 * who sent an event is in its routing key, where a topic permission of the broker binds it (permissions.ts).
 */
import { COMMANDS, COORDINATOR_EVENT_TYPES, EVENTS, type EventType, QUERY_TYPES } from './definitions.ts'

export interface Exchange {
  readonly name: string
  readonly type: 'topic' | 'direct' | 'fanout'
  readonly summary: string
  /** Takes what no binding of this exchange matches. */
  readonly alternate?: Exchange
}

export interface Binding {
  readonly exchange: Exchange
  readonly pattern: string
}

export interface Queue {
  readonly name: string
  readonly summary: string
  readonly bindings: readonly Binding[]
  /** Bindings of earlier releases, which are removed. */
  readonly formerBindings?: readonly Binding[]
  /**
   * Arguments of the declaration. They can never change, because RabbitMQ answers PRECONDITION_FAILED to others; what an
   * operator may want to tune is a policy (policies.ts).
   */
  readonly arguments: Readonly<Record<string, string | number | boolean>>
}

export interface AgentAddress {
  readonly kind: 'mount' | 'target'
  readonly name: string
}

const UNKNOWN_COMMANDS_EXCHANGE: Exchange = {
  name: 'howdah.commands.unknown',
  type: 'fanout',
  summary: 'Commands of a type that no coordinator here knows, to be refused.',
}

export const COMMANDS_EXCHANGE: Exchange = {
  name: 'howdah.commands',
  type: 'topic',
  summary: 'Commands from clients and backup software; the routing key is the command type.',
  alternate: UNKNOWN_COMMANDS_EXCHANGE,
}

export const AGENTS_EXCHANGE: Exchange = {
  name: 'howdah.agents',
  type: 'direct',
  summary: 'Commands from the coordinator to an agent; the routing key is mount.<agent> or target.<agent>.',
}

export const EVENTS_EXCHANGE: Exchange = {
  name: 'howdah.events',
  type: 'topic',
  summary:
    'Events: agent.<kind>.<name>.<event> from agents to the coordinator, session.<id>.<event> from the coordinator to clients.',
}

export const REPLIES_EXCHANGE: Exchange = {
  name: 'howdah.replies',
  type: 'direct',
  summary: 'Replies of agents to the coordinator; the routing key is the reply_to of the query.',
}

export const DEAD_EXCHANGE: Exchange = {
  name: 'howdah.dead',
  type: 'fanout',
  summary: 'What could not be handled, to howdah.dead-letters.',
}

export const AUDIT_EXCHANGE: Exchange = {
  name: 'howdah.audit',
  type: 'topic',
  summary:
    'Commands with their sender, and changes of sessions, from the coordinator; the routing key is that of the command or event.',
}

/** In the order of their declaration: an alternate exchange comes before the one that it serves. */
export const EXCHANGES = [
  UNKNOWN_COMMANDS_EXCHANGE,
  COMMANDS_EXCHANGE,
  AGENTS_EXCHANGE,
  EVENTS_EXCHANGE,
  REPLIES_EXCHANGE,
  DEAD_EXCHANGE,
  AUDIT_EXCHANGE,
] as const

const quorum = { 'x-queue-type': 'quorum' } as const
const oneConsumer = { 'x-single-active-consumer': true } as const
/** RabbitMQ dead-letters what was delivered too often. What expired is of no use, and its queue has no such exchange. */
const deadLettering = { 'x-dead-letter-exchange': DEAD_EXCHANGE.name } as const

/** Since 4.0 RabbitMQ drops a message that was read and requeued 20 times, unless the queue has a limit of its own. */
const MANY_DELIVERIES = 1_000_000
/** Outer bounds of queues that nobody may empty for long; a policy sets lower ones, and RabbitMQ takes the lower. */
const MAX_DEAD_LETTERS = 100_000
const MAX_HEARTBEATS = 100_000
/** The oldest are dropped first. */
const MAX_OBSERVATIONS = 200_000

export const DEAD_LETTERS: Queue = {
  name: 'howdah.dead-letters',
  summary:
    'Messages that could not be handled, with the reason in the header howdah-reason; the oldest are dropped first.',
  bindings: [{ exchange: DEAD_EXCHANGE, pattern: '' }],
  arguments: {
    ...quorum,
    'x-max-length': MAX_DEAD_LETTERS,
    'x-delivery-limit': MANY_DELIVERIES,
  },
}

/**
 * RabbitMQ drops the oldest segments of a stream. These are outer bounds; a policy sets lower ones.
 * Source: https://www.rabbitmq.com/docs/streams
 */
export const AUDIT: Queue = {
  name: 'howdah.audit',
  summary:
    'A stream, to be read by offset or time again and again: commands with their sender, and changes of sessions.',
  bindings: [{ exchange: AUDIT_EXCHANGE, pattern: '#' }],
  arguments: {
    'x-queue-type': 'stream',
    'x-max-length-bytes': 20_000_000_000,
    'x-max-age': '10Y',
    'x-stream-max-segment-size-bytes': 16_000_000,
  },
}

/** A queue that belongs to the connection which works on the dead letters: two would hide them from each other. */
export const DEAD_LETTERS_LOCK = 'howdah.dead-letters.lock'

const commandBindings = (types: string[]): Binding[] =>
  types.map((pattern) => ({ exchange: COMMANDS_EXCHANGE, pattern }))

export const COORDINATOR_COMMANDS: Queue = {
  name: 'howdah.coordinator',
  summary: 'Commands that change something; one coordinator at a time consumes.',
  bindings: commandBindings(Object.keys(COMMANDS).filter((type) => !QUERY_TYPES.has(type))),
  arguments: { ...quorum, ...oneConsumer, ...deadLettering },
}

export const COORDINATOR_QUERIES: Queue = {
  name: 'howdah.coordinator.queries',
  summary: 'Commands that only ask, and those of unknown types; one coordinator at a time consumes.',
  bindings: [
    ...commandBindings(Object.keys(COMMANDS).filter((type) => QUERY_TYPES.has(type))),
    { exchange: UNKNOWN_COMMANDS_EXCHANGE, pattern: '' },
  ],
  arguments: { ...quorum, ...oneConsumer },
}

/** Reports that are outdated soon, since the next one says more: they expire, after as long as their sender says. */
const HEARTBEATS: ReadonlySet<string> = new Set<EventType>([
  ...(['agent.enroll', 'agent.renew', 'agent.revocations-wanted', 'agent.online', 'agent.offline'] as const),
])

/**
 * What agents observe of sessions, and tell again at intervals for as long as it is so: after how many milliseconds each
 * report expires. That is longer than its interval, so that the latest of each session outlives any outage of the
 * coordinator, and all earlier ones are gone when it returns. What stays as it is lasts longer, and is told seldom.
 */
export const LASTING_MS = 1_200_000
export const OBSERVATIONS: Readonly<Partial<Record<EventType, number>>> = {
  'session.usage': 60_000,
  'session.step-progress': 30_000,
  'session.lost': 30_000,
  'session.reachability': LASTING_MS,
  'session.changes': LASTING_MS,
}
const isHeartbeat = (type: string): boolean => HEARTBEATS.has(type)
const isObservation = (type: string): boolean => Object.hasOwn(OBSERVATIONS, type)

const reportPattern = (type: string): string => `agent.*.*.${eventName(type)}`

const reportBindings = (wanted: (type: string) => boolean): Binding[] =>
  Object.keys(EVENTS)
    .filter((type) => !COORDINATOR_EVENT_TYPES.has(type) && wanted(type))
    .map((type) => ({ exchange: EVENTS_EXCHANGE, pattern: reportPattern(type) }))

/** Whether a queue takes what agents report by this type. */
export const takesReports = ({ bindings }: Queue, type: string): boolean =>
  bindings.some(({ pattern }) => pattern === reportPattern(type))

export const COORDINATOR_EVENTS: Queue = {
  name: 'howdah.coordinator.events',
  summary: 'What agents report about sessions; one coordinator at a time consumes.',
  bindings: reportBindings((type) => !isHeartbeat(type) && !isObservation(type)),
  formerBindings: reportBindings((type) =>
    ['session.lost', 'session.reachability', 'session.changes'].includes(type),
  ),
  arguments: { ...quorum, ...oneConsumer, ...deadLettering },
}

export const COORDINATOR_HEARTBEATS: Queue = {
  name: 'howdah.coordinator.heartbeats',
  summary: 'Heartbeats of agents, which expire; one coordinator at a time consumes.',
  bindings: reportBindings(isHeartbeat),
  formerBindings: reportBindings((type) => ['session.usage', 'session.step-progress'].includes(type)),
  arguments: { ...quorum, ...oneConsumer, 'x-max-length': MAX_HEARTBEATS },
}

export const COORDINATOR_OBSERVATIONS: Queue = {
  name: 'howdah.coordinator.observations',
  summary:
    'What agents tell of sessions again and again, such as usage, progress and losses, which expires; one coordinator at a time consumes.',
  bindings: reportBindings(isObservation),
  arguments: { ...quorum, ...oneConsumer, 'x-max-length': MAX_OBSERVATIONS },
}

/** What the coordinator declares before it knows any agent. */
export const COORDINATOR_QUEUES = [
  DEAD_LETTERS,
  COORDINATOR_COMMANDS,
  COORDINATOR_QUERIES,
  COORDINATOR_EVENTS,
  COORDINATOR_HEARTBEATS,
  COORDINATOR_OBSERVATIONS,
] as const

/** A queue that the active coordinator's connection has to itself (lease.ts). */
export const COORDINATOR_LEASE = 'howdah.coordinator.lease'

/** The queue that says which turn of a coordinator was the last (turn.ts). Those that stand by read it any number of times. */
export const COORDINATOR_TURN: Queue = {
  name: 'howdah.coordinator.turn',
  summary: 'The last turn of an active coordinator; one message at most.',
  bindings: [],
  arguments: { ...quorum, 'x-max-length': 1, 'x-delivery-limit': MANY_DELIVERIES },
}

/** The queue that says which store the coordinators of a broker share (lease.ts). Messages never reach it. */
export function coordinatorStore(id: string): Queue {
  return {
    name: 'howdah.coordinator.store',
    summary: 'Names the store of the coordinators in its argument x-dead-letter-routing-key; always empty.',
    bindings: [],
    arguments: {
      ...quorum,
      ...deadLettering,
      'x-dead-letter-routing-key': id,
    },
  }
}

/** The queue of one agent. */
export function agentQueue(agent: AgentAddress): Queue {
  return {
    name: `howdah.${agent.kind}.${agent.name}`,
    summary: `Commands to the ${agent.kind} agent ${agent.name}.`,
    bindings: [{ exchange: AGENTS_EXCHANGE, pattern: agentRoutingKey(agent) }],
    arguments: { ...quorum, ...deadLettering },
  }
}

/**
 * The name of the queue that an agent declares, exclusive to its connection, before it consumes: RabbitMQ refuses it to a
 * second agent of that name. It holds no messages. Quorum queues do not enforce exclusive consumers.
 */
export function agentLock(agent: AgentAddress): string {
  return `howdah.${agent.kind}.${agent.name}.lock`
}

export function agentRoutingKey(agent: AgentAddress): string {
  return `${agent.kind}.${agent.name}`
}

/** `session.step-done` reported by target agent t → `agent.target.t.step-done`. */
export function reportRoutingKey(agent: AgentAddress, type: EventType): string {
  return `agent.${agentRoutingKey(agent)}.${eventName(type)}`
}

/** The agent that a routing key of a report names. */
export function reportSender(routingKey: string): AgentAddress | undefined {
  const [family, kind, name] = routingKey.split('.')
  if (family !== 'agent' || (kind !== 'mount' && kind !== 'target') || !name) return undefined
  return { kind, name }
}

/** `session.state` of session s1 → `session.s1.state`. */
export function sessionEventRoutingKey(type: EventType, session: string): string {
  return `session.${session}.${eventName(type)}`
}

/** The prefix of the queues on which agents reply to a coordinator, each exclusive to one connection. */
export const REPLY_QUEUE_PREFIX = 'howdah.replies.'
/** The prefix of the queues on which a client may wait for replies, each exclusive to one connection. */
export const CLIENT_REPLY_PREFIX = 'howdah.reply.'
/** The prefix of the queues with which clients watch events, each exclusive to one connection. */
export const WATCH_PREFIX = 'howdah.watch.'
/** RabbitMQ's Direct Reply-to: the address to consume from, and the beginning of what it makes of it in a request. */
export const DIRECT_REPLY = 'amq.rabbitmq.reply-to'

/** Where the coordinator answers clients and agents; to no other queue. */
export function isClientReplyAddress(address: string): boolean {
  return address.startsWith(`${DIRECT_REPLY}.`) || address.startsWith(CLIENT_REPLY_PREFIX)
}

/** Where an agent answers the coordinator. */
export function isCoordinatorReplyAddress(address: string): boolean {
  return address.startsWith(REPLY_QUEUE_PREFIX)
}

function eventName(type: string): string {
  return type.slice(type.indexOf('.') + 1)
}
