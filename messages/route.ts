/**
 * Where each message goes: its exchange, its routing key, and what it means when no queue takes it. Pure functions on the
 * tables of definitions.ts and topology.ts.
 */
import type { z } from 'zod'
import {
  AGENT_COMMANDS,
  type AgentCommandType,
  type AgentQueryType,
  COMMANDS,
  type CommandType,
  EVENTS,
  type EventBody,
  MAX_COMMAND_BYTES,
  type MessageType,
  QUERY_TYPES,
  type ReportQueryType,
  type ReportType,
  type SessionEventType,
} from './definitions.ts'
import {
  AGENTS_EXCHANGE,
  type AgentAddress,
  agentRoutingKey,
  COMMANDS_EXCHANGE,
  COORDINATOR_COMMANDS,
  COORDINATOR_QUERIES,
  EVENTS_EXCHANGE,
  OBSERVATIONS,
  reportRoutingKey,
  sessionEventRoutingKey,
} from './topology.ts'

export interface Route {
  readonly type: MessageType
  readonly body: z.ZodType
  /** Bytes. Default: as of any message. */
  readonly maxBytes?: number
  readonly exchange: string
  readonly routingKey: string
  /** What the error `unroutable` says. Missing: no queue needs to take it. */
  readonly unroutable?: string
  /** Milliseconds after which nobody needs the message, unless the sender says another. Missing: never. */
  readonly expiresMs?: number | undefined
}

export interface RequestRoute extends Route {
  readonly reply: z.ZodType
  /** Who is answered: a client by Direct Reply-to, a coordinator on its queue for the replies of agents. */
  readonly repliesTo: 'client' | 'coordinator'
  /** The request is of no use after the deadline of its reply, and then removed from its queue. */
  readonly expires: boolean
  /** What the error `timeout` says when no reply came within these seconds. */
  unanswered(seconds: number): string
}

/** A command to the coordinator. */
export function commandRoute(type: CommandType): RequestRoute {
  const { body, reply } = COMMANDS[type]
  const queue = QUERY_TYPES.has(type) ? COORDINATOR_QUERIES : COORDINATOR_COMMANDS
  return {
    type,
    body,
    reply,
    maxBytes: MAX_COMMAND_BYTES,
    repliesTo: 'client',
    expires: QUERY_TYPES.has(type),
    exchange: COMMANDS_EXCHANGE.name,
    routingKey: type,
    unroutable: `no queue takes ${type}: no coordinator was ever started on this broker`,
    unanswered: (seconds) =>
      `the coordinator did not answer ${type} within ${seconds} s: is "howdah coordinator" (or "howdah up") running? The command waits in the queue ${queue.name}`,
  }
}

/** A command to one agent. */
export function agentCommandRoute(agent: AgentAddress, type: AgentCommandType): Route {
  return {
    type,
    body: AGENT_COMMANDS[type].body,
    exchange: AGENTS_EXCHANGE.name,
    routingKey: agentRoutingKey(agent),
    unroutable: `the ${agent.kind} agent ${agent.name} has no queue: it never registered on this broker`,
  }
}

/** A command that an agent answers with a reply. */
export function agentQueryRoute(agent: AgentAddress, type: AgentQueryType): RequestRoute {
  return {
    ...agentCommandRoute(agent, type),
    reply: AGENT_COMMANDS[type].reply,
    repliesTo: 'coordinator',
    expires: false,
    unanswered: (seconds) =>
      `the ${agent.kind} agent ${agent.name} did not answer ${type} within ${seconds} s: is it running?`,
  }
}

/** What an agent asks the coordinator. */
export function reportQueryRoute(agent: AgentAddress, type: ReportQueryType): RequestRoute {
  return {
    ...reportRoute(agent, type),
    reply: EVENTS[type].reply,
    repliesTo: 'client',
    expires: true,
    unanswered: (seconds) => `the coordinator did not answer within ${seconds} s`,
  }
}

/** An event for clients, published by the coordinator. */
export function eventRoute<T extends SessionEventType>(type: T, body: EventBody<T>): Route {
  return {
    type,
    body: EVENTS[type].body,
    exchange: EVENTS_EXCHANGE.name,
    routingKey: sessionEventRoutingKey(type, body.session),
  }
}

/** What an agent reports to the coordinator. */
export function reportRoute(agent: AgentAddress, type: ReportType): Route {
  return {
    type,
    body: EVENTS[type].body,
    exchange: EVENTS_EXCHANGE.name,
    routingKey: reportRoutingKey(agent, type),
    unroutable: `no queue takes ${type}: no coordinator was ever started on this broker`,
    expiresMs: OBSERVATIONS[type],
  }
}
