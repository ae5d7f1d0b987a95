/**
 * The exchanges, queues, bindings and routing keys of the contract. The bus declares them from this table, and the AsyncAPI
 * document is generated from it. Uses no feature that RabbitMQ 3.10 lacks or RabbitMQ 4 removed.
 */
import { COORDINATOR_EVENT_TYPES, EVENTS, type EventBody, type EventType } from './definitions.ts'

export interface Exchange {
  readonly name: string
  readonly type: 'topic' | 'direct'
  readonly summary: string
}

export interface Binding {
  readonly exchange: Exchange
  readonly pattern: string
}

export interface Queue {
  readonly name: string
  readonly summary: string
  readonly bindings: readonly Binding[]
  /** Arguments of the declaration. If the queue exists with others, RabbitMQ answers PRECONDITION_FAILED. */
  readonly arguments: Readonly<Record<string, string | number | boolean>>
}

export interface AgentAddress {
  readonly kind: 'mount' | 'target'
  readonly name: string
}

export const COMMANDS_EXCHANGE: Exchange = {
  name: 'howdah.commands',
  type: 'topic',
  summary: 'Commands from clients and backup software; the routing key is the command type.',
}

export const AGENTS_EXCHANGE: Exchange = {
  name: 'howdah.agents',
  type: 'direct',
  summary: 'Commands from the coordinator to an agent; the routing key is mount.<agent> or target.<agent>.',
}

export const EVENTS_EXCHANGE: Exchange = {
  name: 'howdah.events',
  type: 'topic',
  summary: 'All events: session.<id>.<event>, agent.<kind>.<name>.<event> and repository.<name>.<event>.',
}

export const EXCHANGES = [COMMANDS_EXCHANGE, AGENTS_EXCHANGE, EVENTS_EXCHANGE] as const

const DEAD_LETTERS_NAME = 'howdah.dead-letters'

/** Deliveries of one message before RabbitMQ dead-letters it. The bus gives up earlier; this limit ends crash loops. */
export const DELIVERY_LIMIT = 20

const work = {
  'x-queue-type': 'quorum',
  'x-delivery-limit': DELIVERY_LIMIT,
  // The default exchange: it routes by queue name and cannot be missing.
  'x-dead-letter-exchange': '',
  'x-dead-letter-routing-key': DEAD_LETTERS_NAME,
} as const

/** Since 4.0 RabbitMQ drops a message that was read and requeued 20 times, unless the queue has a limit of its own. */
const DEAD_LETTER_DELIVERY_LIMIT = 1_000_000

export const DEAD_LETTERS: Queue = {
  name: DEAD_LETTERS_NAME,
  summary:
    'Messages that could not be handled, with the reason in the header howdah-reason; the oldest are dropped first.',
  bindings: [],
  arguments: {
    'x-queue-type': 'quorum',
    'x-max-length': 10_000,
    'x-delivery-limit': DEAD_LETTER_DELIVERY_LIMIT,
  },
}

export const COORDINATOR_COMMANDS: Queue = {
  name: 'howdah.coordinator',
  summary: 'Commands to the coordinator; one coordinator at a time consumes.',
  bindings: [{ exchange: COMMANDS_EXCHANGE, pattern: '#' }],
  arguments: { ...work, 'x-single-active-consumer': true },
}

/** Events of agents: all but the coordinator's own. */
const COORDINATOR_PATTERNS = [
  ...Object.keys(EVENTS)
    .filter((type) => type.startsWith('session.') && !COORDINATOR_EVENT_TYPES.has(type))
    .map((type) => type.replace(/^session\./, 'session.*.')),
  'agent.#',
]

export const COORDINATOR_EVENTS: Queue = {
  name: 'howdah.coordinator.events',
  summary: 'Events from agents to the coordinator; one coordinator at a time consumes.',
  bindings: COORDINATOR_PATTERNS.map((pattern) => ({ exchange: EVENTS_EXCHANGE, pattern })),
  arguments: { ...work, 'x-single-active-consumer': true },
}

/** The queue of one agent. */
export function agentQueue(agent: AgentAddress): Queue {
  return {
    name: `howdah.${agent.kind}.${agent.name}`,
    summary: `Commands to the ${agent.kind} agent ${agent.name}.`,
    bindings: [{ exchange: AGENTS_EXCHANGE, pattern: agentRoutingKey(agent) }],
    arguments: work,
  }
}

export function agentRoutingKey(agent: AgentAddress): string {
  return `${agent.kind}.${agent.name}`
}

/** `session.step-done` of session s1 → `session.s1.step-done`; `agent.online` of mount agent m → `agent.mount.m.online`; of repository main → `repository.main.damage`. */
export function eventRoutingKey<T extends EventType>(type: T, body: EventBody<T>): string {
  const [family, event] = type.split('.') as [string, string]
  const about = body as { session?: string; kind?: string; name?: string; repository?: string }
  if (family === 'repository') return `repository.${about.repository}.${event}`
  return family === 'session'
    ? `session.${about.session}.${event}`
    : `agent.${about.kind}.${about.name}.${event}`
}
