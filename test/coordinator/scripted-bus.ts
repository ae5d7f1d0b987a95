/**
 * A bus without a broker: records what the coordinator sends, and answers for the agents as a test says. Everything
 * that passes is held against the contract, as a real bus does.
 */
import type { Bus, CommandDelivery, Delivery, ReportDelivery, SendOptions } from '../../messages/bus.ts'
import {
  AGENT_COMMANDS,
  type AgentCommandBody,
  type AgentCommandType,
  type AgentQueryType,
  type AgentReply,
  COMMANDS,
  type CommandBody,
  type CommandType,
  EVENTS,
  type EventBody,
  type ReportQueryType,
  type ReportType,
  type SessionEventType,
} from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { AgentAddress } from '../../messages/topology.ts'

export interface SentCommand {
  readonly agent: AgentAddress
  readonly type: AgentCommandType
  readonly body: AgentCommandBody<'step.run'>
  readonly messageId: string | undefined
}

export type Emitted = {
  [T in SessionEventType]: {
    readonly type: T
    readonly body: EventBody<T>
    readonly messageId: string | undefined
  }
}[SessionEventType]

type Answers = {
  [T in AgentQueryType]?: (body: AgentCommandBody<T>, agent: AgentAddress) => AgentReply<T>
}

export interface ScriptedBus extends Bus {
  /** Steps sent to agents, oldest first. */
  readonly sent: SentCommand[]
  readonly emitted: Emitted[]
  readonly enrolled: AgentAddress[]
  /** By the `message_id` of the command, the latest. */
  readonly replies: Map<string, object>
  /** Agents whose queues were deleted. */
  readonly forgotten: AgentAddress[]
  /** Answers to queries; an agent without one does not answer before the deadline. */
  readonly answers: Answers
  /** What sending and emitting fails with, while it is set. */
  failure: HowdahError | undefined
}

export function createScriptedBus(): ScriptedBus {
  const unused = (): never => {
    throw new Error('no part of the coordinator that is tested here uses this')
  }
  const bus: ScriptedBus = {
    sent: [],
    emitted: [],
    enrolled: [],
    replies: new Map(),
    forgotten: [],
    answers: {},
    failure: undefined,
    connectedSince: 0,

    async sendToAgent(agent, type, body, options: SendOptions = {}) {
      if (bus.failure) throw bus.failure
      const parsed = AGENT_COMMANDS[type].body.parse(asSent(body)) as AgentCommandBody<'step.run'>
      bus.sent.push({ agent, type, body: parsed, messageId: options.messageId })
    },

    async requestAgent<T extends AgentQueryType>(agent: AgentAddress, type: T, body: AgentCommandBody<T>) {
      const answer = bus.answers[type]
      if (!answer) throw new HowdahError('timeout', `the ${agent.kind} agent "${agent.name}" did not answer`)
      return AGENT_COMMANDS[type].reply.parse(asSent(answer(body, agent))) as AgentReply<T>
    },

    async emit(type, body, { messageId } = {}) {
      if (bus.failure) throw bus.failure
      bus.emitted.push({ type, body: EVENTS[type].body.parse(asSent(body)), messageId } as Emitted)
    },

    async reply(delivery, body) {
      const { reply } =
        delivery.type in COMMANDS
          ? COMMANDS[delivery.type as CommandType]
          : EVENTS[delivery.type as ReportQueryType]
      bus.replies.set(delivery.messageId, reply.parse(asSent(body)))
    },

    async disenroll({ kind, name }) {
      bus.forgotten.push({ kind, name })
    },

    async queueLengths() {
      return new Map()
    },
    async probe() {},
    async close() {},
    request: unused,
    askCoordinator: unused,
    consumeCommands: unused,
    consumeQueries: unused,
    consumeReports: unused,
    consumeHeartbeats: unused,
    consumeObservations: unused,
    consumeAgentCommands: unused,
    watchEvents: unused,
    declareTopology: unused,
    report: unused,
    async enroll(agent) {
      bus.enrolled.push(agent)
    },
    holdLease: unused,
  }
  return bus
}

export function commandDelivery<T extends CommandType>(
  type: T,
  body: CommandBody<T>,
  messageId: string,
  userId?: string,
): CommandDelivery {
  const parsed = COMMANDS[type].body.parse(asSent(body))
  return { ...delivery(type, parsed, messageId), userId } as CommandDelivery
}

/** `userId` default: one that all processes share. */
export function reportDelivery<T extends ReportType>(
  sender: AgentAddress,
  type: T,
  body: EventBody<T>,
  userId = 'howdah',
): ReportDelivery {
  const parsed = EVENTS[type].body.parse(asSent(body))
  return { ...delivery(type, parsed, 'event'), sender, userId } as ReportDelivery
}

function delivery(type: string, body: unknown, messageId: string): Delivery {
  return {
    type,
    body,
    messageId,
    correlationId: messageId,
    replyTo: 'howdah.reply.test',
    appId: 'test',
    userId: undefined,
    sender: undefined,
    routingKey: type,
    redelivered: false,
  }
}

/** What arrives at the other end. */
function asSent(body: unknown): unknown {
  return JSON.parse(JSON.stringify(body))
}
