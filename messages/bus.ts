/**
 * The message bus of every Howdah process: connect, publish, consume, request.
 *
 * Owns the connection and its recovery: after a reconnect everything is declared and consumed again, and what was not
 * confirmed is published again. Only the bus acknowledges; handlers return the outcome of a delivery.
 */

import type { AgentInstance } from './agent-queue.ts'
import type {
  AgentCommandBody,
  AgentCommandType,
  AgentQueryType,
  AgentReply,
  CommandBody,
  CommandReply,
  CommandType,
  EventBody,
  EventReply,
  ReportQueryType,
  ReportType,
  SessionEventType,
} from './definitions.ts'
import type { ErrorBody } from './errors.ts'
import type { Lease, LeaseOptions } from './lease.ts'
import type { RefusedStep } from './refused-step.ts'
import type { AgentAddress } from './topology.ts'

/**
 * The outcome of a delivery. `deadLetter` copies it to the exchange `howdah.dead` with the reason, then acks it. When a handler
 * throws, the message is delivered again, a bounded number of times.
 */
export type Outcome = 'ack' | { readonly deadLetter: string }

/** A delivery whose type is known and whose body matches its schema; anything else never reaches a handler. */
export interface Delivery<Type extends string = string, Body = unknown> {
  readonly type: Type
  readonly body: Body
  /** The idempotency key. A message without one is refused. */
  readonly messageId: string
  readonly correlationId: string | undefined
  readonly replyTo: string | undefined
  readonly appId: string | undefined
  /** The user of the sender's connection, checked by RabbitMQ; undefined when the sender did not give it. */
  readonly userId: string | undefined
  /** The agent that the routing key of a report names. */
  readonly sender: AgentAddress | undefined
  readonly routingKey: string
  readonly redelivered: boolean
}

export type CommandDelivery = { [T in CommandType]: Delivery<T, CommandBody<T>> }[CommandType]
export type AgentCommandDelivery = {
  [T in AgentCommandType]: Delivery<T, AgentCommandBody<T>>
}[AgentCommandType]
/** What an agent reports to the coordinator. */
export type ReportDelivery = {
  [T in ReportType]: Delivery<T, EventBody<T>> & { readonly sender: AgentAddress }
}[ReportType]
/** What the coordinator publishes for clients. */
export type EventDelivery = { [T in SessionEventType]: Delivery<T, EventBody<T>> }[SessionEventType]

export interface Consumer {
  /** False while there is no connection, or RabbitMQ does not let it consume. */
  readonly isConsuming: boolean
  /** Cancels the consumer and waits for running handlers. */
  close(): Promise<void>
}

export interface SendOptions {
  /** Default: a new UUID. A retry of the same message has the same id. */
  readonly messageId?: string
  /** How long to wait for the broker to confirm, reconnects included. Default 30 s. */
  readonly timeoutMs?: number
  /** Milliseconds after which RabbitMQ removes the message from its queue. Default: never. */
  readonly expiresMs?: number
  readonly signal?: AbortSignal
}

export interface Bus {
  /** Sends a command to the coordinator and waits for its reply. A refusal is a reply, not an exception. @throws HowdahError `timeout` | `unroutable` | `broker_unavailable` */
  request<T extends CommandType>(
    type: T,
    body: CommandBody<T>,
    options?: SendOptions,
  ): Promise<CommandReply<T>>

  /** Sends a command to an agent; resolves when the broker has confirmed it. @throws HowdahError `unroutable` | `broker_unavailable` | `timeout` */
  sendToAgent<T extends AgentCommandType>(
    agent: AgentAddress,
    type: T,
    body: AgentCommandBody<T>,
    options?: SendOptions,
  ): Promise<void>

  /** Sends a query to an agent and waits for its reply. Errors as `request`. */
  requestAgent<T extends AgentQueryType>(
    agent: AgentAddress,
    type: T,
    body: AgentCommandBody<T>,
    options?: SendOptions,
  ): Promise<AgentReply<T>>

  /**
   * Publishes an event about a session for clients, as the coordinator; no queue needs to take it. Resolves when the
   * broker has confirmed it.
   */
  emit<T extends SessionEventType>(type: T, body: EventBody<T>, options?: SendOptions): Promise<void>

  /** Reports to the coordinator as an agent. Resolves when the broker has confirmed it. @throws as `sendToAgent` */
  report<T extends ReportType>(
    agent: AgentAddress,
    type: T,
    body: EventBody<T>,
    options?: SendOptions,
  ): Promise<void>

  /** Asks the coordinator as an agent, and waits for its reply. Errors as `request`. */
  askCoordinator<T extends ReportQueryType>(
    agent: AgentAddress,
    type: T,
    body: EventBody<T>,
    options?: SendOptions,
  ): Promise<EventReply<T>>

  /** Answers a delivery that asked for it (`replyTo`); does nothing for one that did not. It is not an error when the requester has gone away. */
  reply(delivery: Delivery, body: object): Promise<void>

  /** The coordinator's commands that change something; prefetch bounds the handlers that run concurrently. */
  consumeCommands(handler: (delivery: CommandDelivery) => Promise<Outcome>): Promise<Consumer>

  /** The coordinator's commands that only ask. */
  consumeQueries(handler: (delivery: CommandDelivery) => Promise<Outcome>): Promise<Consumer>

  /** What agents report about sessions once, such as the outcome of a step. */
  consumeReports(handler: (delivery: ReportDelivery) => Promise<Outcome>): Promise<Consumer>

  /** The heartbeats of agents. */
  consumeHeartbeats(handler: (delivery: ReportDelivery) => Promise<Outcome>): Promise<Consumer>

  /** What agents report about sessions again and again, for as long as it is so. */
  consumeObservations(handler: (delivery: ReportDelivery) => Promise<Outcome>): Promise<Consumer>

  /**
   * Asks for the lease of the coordinators, again and again until it is held, and again when it was lost with the connection.
   * Resolves when it is held, or when another coordinator with the same store is active.
   * @throws HowdahError `configuration` when the broker belongs to another store
   */
  holdLease(options: LeaseOptions): Promise<Lease>

  /**
   * One agent's commands. While the agent has no queue, this asks the coordinator for one and waits until it is declared.
   * `onRefused` is called with a step whose command breaks the contract; such a message reaches no handler.
   * @throws HowdahError `configuration` when another process consumes under the name of the agent
   */
  consumeAgentCommands(
    agent: AgentInstance,
    handler: (delivery: AgentCommandDelivery) => Promise<Outcome>,
    onRefused?: (step: RefusedStep, error: ErrorBody) => Promise<void>,
  ): Promise<Consumer>

  /**
   * What the coordinator publishes about sessions as it happens, on an exclusive queue that is deleted with the connection. `pattern` is a topic pattern, e.g.
   * `session.<id>.#`. `onMissed` is called after each reconnect, when the new queue is bound: what was published in between
   * did not reach the old one.
   */
  watchEvents(
    pattern: string,
    handler: (delivery: EventDelivery) => void,
    onMissed?: () => void,
  ): Promise<Consumer>

  /** Declares exchanges and the coordinator's queues, as a coordinator does when it consumes. @throws HowdahError `configuration` */
  declareTopology(): Promise<void>

  /** As the coordinator: declares an agent's queue, in which commands are kept while the agent is offline. @throws as `declareTopology` */
  enroll(agent: AgentAddress): Promise<void>

  /** Deletes an agent's queue with the commands in it; it need not exist. */
  disenroll(agent: AgentAddress): Promise<void>

  /**
   * As the coordinator: the messages that wait in its queues, and the dead letters, by queue.
   * @throws what the connection fails with
   */
  queueLengths(): Promise<ReadonlyMap<string, number>>

  /**
   * Publishes a message that no queue takes. RabbitMQ notifies only publishing connections of an alarm, so a process that
   * mostly consumes probes the broker before it concludes anything from silence.
   * @throws HowdahError as `emit`
   */
  probe(): Promise<void>

  /**
   * Since when the connection is up and RabbitMQ takes messages, in ms since the epoch; undefined while it is not.
   */
  readonly connectedSince: number | undefined

  /**
   * Closes consumers first, then waits for confirms, then closes the connection; within a deadline, and at once when
   * RabbitMQ takes no messages.
   */
  close(): Promise<void>
}
