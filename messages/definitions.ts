/**
 * Every message of the contract: its type, its body, where it is published and what answers it. Types, validation,
 * queue topology and the AsyncAPI document all come from this table.
 */
import { z } from 'zod'
import { StepCommand, TargetOptions } from './steps.ts'
import {
  AgentView,
  Bytes,
  ErrorSchema,
  Name,
  RecoverTo,
  RepositoryInventory,
  RepositoryName,
  Sequence,
  SessionId,
  SessionState,
  SessionView,
  SpaceWarning,
  StepName,
  type StepReport,
  Usage,
} from './values.ts'

/** Value of the header `howdah-version` that this code speaks. */
export const CONTRACT_VERSION = 1

/** A larger message is refused before it is parsed. Bytes. */
export const MAX_MESSAGE_BYTES = 256 * 1024

const Refused = z.object({ accepted: z.literal(false), error: ErrorSchema })
const accepted = <T extends z.ZodRawShape>(shape: T) =>
  z.discriminatedUnion('accepted', [z.object({ accepted: z.literal(true), ...shape }), Refused])

export const PublishBody = z.strictObject({
  repository: Name,
  instance: RepositoryName,
  target: Name,
  backup: RepositoryName.optional().describe('a label; default: the latest'),
  recoverTo: RecoverTo.optional(),
  user: TargetOptions.shape.user,
  port: TargetOptions.shape.port,
  options: z.strictObject({}).optional(),
})

/** Commands from clients and backup software: exchange `howdah.commands`, routing key = type. */
export const COMMANDS = {
  'instance.publish': {
    summary: 'Publish an instance from a backup on a target server.',
    body: PublishBody,
    reply: accepted({ session: SessionId }),
  },
  'session.unpublish': {
    summary: 'Stop a published instance and remove everything that belongs to its session.',
    body: z.strictObject({ session: SessionId }),
    reply: accepted({ session: SessionId }),
  },
  'session.list': {
    summary: 'All sessions, newest first; closed and failed ones too when asked for.',
    body: z.strictObject({ all: z.boolean().optional() }),
    reply: accepted({ sessions: z.array(SessionView) }),
  },
  'session.show': {
    summary: 'One session.',
    body: z.strictObject({ session: SessionId }),
    reply: accepted({ session: SessionView }),
  },
  'inventory.list': {
    summary: 'What can be published: repositories, instances, backups.',
    body: z.strictObject({ repository: Name.optional(), instance: RepositoryName.optional() }),
    reply: accepted({ repositories: z.array(RepositoryInventory) }),
  },
  'agent.list': {
    summary: 'The agents that ever registered.',
    body: z.strictObject({}),
    reply: accepted({ agents: z.array(AgentView) }),
  },
} as const satisfies Record<string, { summary: string; body: z.ZodType; reply: z.ZodType }>

/** Commands from the coordinator to one agent: exchange `howdah.agents`, routing key `mount.<agent>` or `target.<agent>`. */
export const AGENT_COMMANDS = {
  'step.run': { summary: 'Run one step of a session; answered by events.', body: StepCommand },
  'step.undo': { summary: 'Take one step of a session back; answered by events.', body: StepCommand },
  'repository.list': {
    summary: 'Read the inventory of the repositories that a mount agent serves.',
    body: z.strictObject({ repository: Name.optional(), instance: RepositoryName.optional() }),
    reply: accepted({ repositories: z.array(RepositoryInventory) }),
  },
} as const satisfies Record<string, { summary: string; body: z.ZodType; reply?: z.ZodType }>

const stepOf = {
  session: SessionId,
  step: StepName,
  direction: z.enum(['run', 'undo']),
  sequence: Sequence,
}

/** Events: exchange `howdah.events`, routing key `session.<id>.<event>` or `agent.<kind>.<name>.<event>`. */
export const EVENTS = {
  'session.state': {
    summary: 'A session changed its state.',
    body: z.object({
      session: SessionId,
      state: SessionState,
      previous: SessionState.optional(),
      reason: z.string().optional(),
      error: ErrorSchema.optional(),
    }),
  },
  'session.step-started': { summary: 'An agent began a step.', body: z.object(stepOf) },
  'session.step-progress': {
    summary: 'A step goes on.',
    body: z.object({
      ...stepOf,
      detail: z.string().optional(),
      bytesDone: Bytes.optional(),
      bytesTotal: Bytes.optional(),
    }),
  },
  'session.step-done': {
    summary: 'A step is done; `result` is what the step gives.',
    body: z.object({ ...stepOf, result: z.record(z.string(), z.unknown()) }),
  },
  'session.step-failed': { summary: 'A step failed.', body: z.object({ ...stepOf, error: ErrorSchema }) },
  'session.usage': {
    summary: 'What a published session has fetched and keeps.',
    body: z.object({ session: SessionId, usage: Usage }),
  },
  'session.warning': {
    summary:
      'The room for the changes of a session runs out, or is there again; sent once for each threshold.',
    body: z.object({ session: SessionId, ...SpaceWarning.shape, usage: Usage }),
  },
  'session.lost': {
    summary: 'A target agent found that the mount or PostgreSQL of a session is gone.',
    body: z.object({ session: SessionId, what: z.enum(['mount', 'postgres']), reason: z.string() }),
  },
  'agent.online': { summary: 'An agent consumes its queue; sent again as heartbeat.', body: AgentView },
  'agent.offline': {
    summary: 'An agent stopped in an orderly way.',
    body: z.object({ kind: z.enum(['mount', 'target']), name: Name }),
  },
} as const satisfies Record<string, { summary: string; body: z.ZodType }>

/** Events that the coordinator itself tells; all others are agents'. */
export const COORDINATOR_EVENT_TYPES: ReadonlySet<string> = new Set([
  'session.state',
  'session.warning',
] satisfies (keyof typeof EVENTS)[])

export type CommandType = keyof typeof COMMANDS
export type CommandBody<T extends CommandType> = z.infer<(typeof COMMANDS)[T]['body']>
export type CommandReply<T extends CommandType> = z.infer<(typeof COMMANDS)[T]['reply']>
export type AgentCommandType = keyof typeof AGENT_COMMANDS
export type AgentCommandBody<T extends AgentCommandType> = z.infer<(typeof AGENT_COMMANDS)[T]['body']>
export type EventType = keyof typeof EVENTS
export type EventBody<T extends EventType> = z.infer<(typeof EVENTS)[T]['body']>
export type MessageType = CommandType | AgentCommandType | EventType
export * from './steps.ts'
export * from './values.ts'
export type { StepReport }
