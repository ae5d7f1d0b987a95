/**
 * Talking over RabbitMQ, for every process of Howdah: connect, publish, consume, request.
 *
 * Owns the connection and its recovery: after a reconnect everything is declared again, consumed again, and what was
 * not confirmed is published again. Only the bus acknowledges; handlers return what is to become of a delivery.
 */
import type {
  AgentCommandBody,
  AgentCommandType,
  AgentQueryType,
  AgentReply,
  CommandBody,
  CommandReply,
  CommandType,
  EventBody,
  EventType,
} from './definitions.ts'
import type { AgentAddress } from './topology.ts'

/**
 * What becomes of a delivery. `deadLetter` copies it to `howdah.dead-letters` with the reason, then acks it. A handler that
 * throws gets it again, a bounded number of times.
 */
export type Outcome = 'ack' | { readonly deadLetter: string }

/** A delivery whose type is known and whose body matches its schema; anything else never reaches a handler. */
export interface Delivery<Type extends string = string, Body = unknown> {
  readonly type: Type
  readonly body: Body
  /** The idempotency key. Always there: a message without one is refused. */
  readonly messageId: string
  readonly correlationId: string | undefined
  readonly replyTo: string | undefined
  readonly appId: string | undefined
  readonly routingKey: string
  readonly redelivered: boolean
}

export type CommandDelivery = { [T in CommandType]: Delivery<T, CommandBody<T>> }[CommandType]
export type AgentCommandDelivery = {
  [T in AgentCommandType]: Delivery<T, AgentCommandBody<T>>
}[AgentCommandType]
export type EventDelivery = { [T in EventType]: Delivery<T, EventBody<T>> }[EventType]

export interface Consumer {
  /** Takes no more deliveries, waits for running handlers, and lets go of the queue. */
  close(): Promise<void>
}

export interface SendOptions {
  /** Default: a new UUID. The same id for a retry of the same thing. */
  readonly messageId?: string
  /** How long to wait for the broker to confirm, reconnects included. Default 30 s. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface Bus {
  /** Sends a command to the coordinator and waits for its reply. A refusal is a reply, not an exception. @throws HowdahError `timeout` | `unroutable` | `broker_unavailable` */
  request<T extends CommandType>(
    type: T,
    body: CommandBody<T>,
    options?: SendOptions,
  ): Promise<CommandReply<T>>

  /** Sends a command to an agent; resolves when the broker has it safely. @throws HowdahError `unroutable` | `broker_unavailable` | `timeout` */
  sendToAgent<T extends AgentCommandType>(
    agent: AgentAddress,
    type: T,
    body: AgentCommandBody<T>,
    options?: SendOptions,
  ): Promise<void>

  /** Asks an agent something and waits for its reply. Errors as `request`. */
  requestAgent<T extends AgentQueryType>(
    agent: AgentAddress,
    type: T,
    body: AgentCommandBody<T>,
    options?: SendOptions,
  ): Promise<AgentReply<T>>

  /** Publishes an event; nobody needs to be listening. Resolves when the broker has it safely. */
  emit<T extends EventType>(type: T, body: EventBody<T>, options?: SendOptions): Promise<void>

  /** Answers a delivery that asked for it (`replyTo`); does nothing for one that did not. A requester that went away is no error. */
  reply(delivery: Delivery, body: object): Promise<void>

  /** The coordinator's commands; prefetch bounds the handlers that run at once. */
  consumeCommands(handler: (delivery: CommandDelivery) => Promise<Outcome>): Promise<Consumer>

  /** The coordinator's events: `howdah.coordinator.events`. */
  consumeCoordinatorEvents(handler: (delivery: EventDelivery) => Promise<Outcome>): Promise<Consumer>

  /** One agent's commands. */
  consumeAgentCommands(
    agent: AgentAddress,
    handler: (delivery: AgentCommandDelivery) => Promise<Outcome>,
  ): Promise<Consumer>

  /** Events as they happen, on a queue of this connection's own that goes with it. `pattern` is a topic pattern, e.g. `session.<id>.#`. */
  watchEvents(pattern: string, handler: (delivery: EventDelivery) => void): Promise<Consumer>

  /** Declares an agent's queue, so that commands wait for it while it is away. */
  enroll(agent: AgentAddress): Promise<void>

  /**
   * Publishes a message that nobody gets. RabbitMQ tells of an alarm only those that publish, so whoever mostly listens
   * takes a probe before it believes that silence means something.
   * @throws HowdahError as every publishing
   */
  probe(): Promise<void>

  /**
   * Since when the connection is up and RabbitMQ takes messages, in ms since the epoch; undefined while that is not so.
   */
  readonly connectedSince: number | undefined

  /**
   * Closes consumers first, then waits for confirms, then closes the connection; within a deadline, and at once when
   * RabbitMQ takes no messages.
   */
  close(): Promise<void>
}
