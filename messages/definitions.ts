/**
 * Every message of the contract: its type, its body, where it is published, and its reply. Types, validation, queue
 * topology and the AsyncAPI document are all derived from this table.
 */
import { z } from 'zod'
import {
  CERTIFIED,
  CertifyBody,
  InviteBody,
  JoinBody,
  RenewBody,
  RevocationList,
  RevocationsWantedBody,
  RevokeBody,
} from './enrolment.ts'
import { DatabaseExport, ExportRequest, ExportTotals } from './exports.ts'
import { NewTags, Tags } from './labels.ts'
import { openInstruction, openReport } from './open-schema.ts'
import {
  Bytes,
  ErrorSchema,
  Finding,
  Name,
  Port,
  RepositoryName,
  Sequence,
  SessionId,
  Time,
} from './primitives.ts'
import { SessionListBody, SessionListReply } from './session-list.ts'
import { RecoverResult, ResolveResult, StepCommand, StepInput, TargetOptions } from './steps.ts'
import {
  AgentView,
  Changes,
  Connection,
  Reachability,
  RecoverTo,
  RepositoryInventory,
  SessionState,
  SessionView,
  SpaceWarning,
  StepName,
  type StepReport,
  Usage,
} from './values.ts'

/** The version of this contract. */
export const CONTRACT_VERSION = 2
/** The oldest version whose messages are understood, and whose receivers understand what does not need a later one. */
export const OLDEST_CONTRACT_VERSION = 2

/** Bytes. A larger message is refused without being parsed. */
export const MAX_MESSAGE_BYTES = 512 * 1024
/**
 * Bytes of a command from clients. A step carries the request of its session, that of an export and the results of earlier
 * steps, which together must fit into a message.
 */
export const MAX_COMMAND_BYTES = 128 * 1024

const Refused = z.object({ accepted: z.literal(false), error: ErrorSchema })
const accepted = <T extends z.ZodRawShape>(shape: T) =>
  openReport(z.discriminatedUnion('accepted', [z.object({ accepted: z.literal(true), ...shape }), Refused]))

/** Lifetime of a session from now. Seconds; at most a year. */
const ExpiresIn = z.int().min(1).max(31_536_000)

export const PublishBody = z.strictObject({
  repository: Name,
  instance: RepositoryName,
  target: Name,
  backup: RepositoryName.optional().describe('a label; default: the newest that the recovery target allows'),
  recoverTo: RecoverTo.optional(),
  ...TargetOptions.shape,
  expiresIn: ExpiresIn.optional().describe('seconds after which it is unpublished; default: never'),
  export: ExportRequest.optional().describe(
    'export this once it is published, then unpublish and remove everything',
  ),
  ...NewTags.shape,
})

/** The body of a command that changes a session. */
const change = <T extends z.ZodRawShape>(shape: T) =>
  z.strictObject({ session: SessionId, ...shape, ...NewTags.shape })

/** The resources that publishing will need. Missing: unknown. */
export const Estimate = z.object({
  fetchBytes: Bytes.optional().describe('to fetch until the instance is usable'),
  walBytes: Bytes.optional().describe('WAL to replay'),
  cacheBytes: Bytes.optional().describe('space that the write cache needs for that'),
  freeBytes: Bytes.optional().describe('free for write caches on the target'),
})

export const CheckReport = z.object({
  backup: z.string().optional(),
  recoverTo: RecoverTo.optional(),
  findings: z.array(Finding),
  estimate: Estimate,
})

/** A write cache or a store of fetched blocks on a target, and the result of its verification. */
export const DoctorItem = z.object({
  kind: z.enum(['fetched-store', 'write-cache']),
  name: z.string().describe('the session of a write cache; the key of a store of fetched blocks'),
  path: z.string(),
  sessions: z.array(z.string()).describe('that use it'),
  bytes: Bytes.describe('that it holds'),
  checkedBytes: Bytes.describe('of these, that were checked within the time limit'),
  verdict: z
    .enum(['sound', 'mended', 'discarded', 'damaged'])
    .describe(
      'mended: wrong blocks were removed; discarded: unreadable and unused, so it was removed; damaged: left unchanged',
    ),
  problems: z.array(z.string()),
})

/** Seconds that a target may spend on verification. */
const TimeLimit = z.int().min(1).max(1500)

/** The reply to a command that changes a session. */
const CHANGED = {
  session: SessionId,
  after: z
    .int()
    .min(0)
    .optional()
    .describe(
      'number of the latest step when the command was accepted: those that follow from it have higher ones',
    ),
}

/** Commands from clients and backup software: exchange `howdah.commands`, routing key = type. */
export const COMMANDS = {
  'instance.publish': {
    summary: 'Publish an instance from a backup on a target server.',
    body: PublishBody,
    reply: accepted({ session: SessionId }),
  },
  'session.unpublish': {
    summary: 'Stop a published instance and remove everything that belongs to its session.',
    body: change({
      keepCache: z.boolean().optional().describe('keep what was changed, for session.retry'),
      unlessChanged: z
        .boolean()
        .optional()
        .describe('refuse it while there are changes that were not exported, or while that is not known'),
    }),
    reply: accepted(CHANGED),
  },
  'instance.check': {
    summary: 'Check whether a publish would succeed and what it would need; nothing is mounted or kept.',
    body: PublishBody,
    reply: accepted({ report: CheckReport }),
  },
  'session.republish': {
    summary:
      'Publish the instance of a session again: in its place, or alongside it. Refused while it holds changes that were not exported.',
    body: change({
      recoverTo: RecoverTo.optional().describe('default: latest'),
      backup: RepositoryName.optional().describe('default: the newest that the recovery target allows'),
      alongside: z.boolean().optional().describe('as another session, on another port'),
      port: Port.optional().describe('alongside only'),
      discardChanges: z.boolean().optional(),
    }),
    reply: accepted(CHANGED),
  },
  'session.retry': {
    summary:
      'Resume a session that is not retried automatically any more, or that was closed with its changes kept.',
    body: change({}),
    reply: accepted(CHANGED),
  },
  'session.cancel': {
    summary: 'Cancel the operation in progress: an export, or the publishing, whose steps are undone.',
    body: change({}),
    reply: accepted(CHANGED),
  },
  'session.promote': {
    summary: 'End a paused recovery: the instance becomes writable.',
    body: change({}),
    reply: accepted(CHANGED),
  },
  'session.advance': {
    summary: 'Move a paused recovery forward to a later target.',
    body: change({ recoverTo: RecoverTo }),
    reply: accepted(CHANGED),
  },
  'session.export': {
    summary: 'Export the changed databases, or any others, from a published instance.',
    body: change(ExportRequest.shape),
    reply: accepted({ ...CHANGED, export: z.string() }),
  },
  'session.extend': {
    summary: 'Extend the lifetime of a session to this long from now.',
    body: change({ expiresIn: ExpiresIn.nullable().describe('null: no expiry') }),
    reply: accepted(CHANGED),
  },
  'session.forget': {
    summary:
      'Close a session whose target will never come back; what is left on that machine stays there. Refused while the target is connected.',
    body: change({}),
    reply: accepted({ session: SessionId }),
  },
  'session.adopt': {
    summary:
      'Take over what is left of a session on a target although no session knows it, as it is published or to remove it.',
    body: change({
      target: Name,
      remove: z.boolean().optional().describe('unpublish it, with all its changes'),
    }),
    reply: accepted(CHANGED),
  },
  'session.list': {
    summary: 'Sessions, newest first, a page at a time.',
    body: SessionListBody,
    reply: accepted(SessionListReply),
  },
  'session.show': {
    summary: 'One session, with its history.',
    body: z.strictObject({
      session: SessionId,
      history: z.boolean().optional().describe('false: without its history; default: true'),
    }),
    reply: accepted({ session: SessionView }),
  },
  'inventory.list': {
    summary: 'What can be published: repositories, instances, backups.',
    body: z.strictObject({ repository: Name.optional(), instance: RepositoryName.optional() }),
    reply: accepted({ repositories: z.array(RepositoryInventory) }),
  },
  'target.doctor': {
    summary:
      'Compare what a target keeps, fetched blocks and write caches, with its checksums and journals; wrong blocks are fetched again.',
    body: z.strictObject({ target: Name, timeLimit: TimeLimit.optional().describe('seconds; default: 60') }),
    reply: accepted({ items: z.array(DoctorItem) }),
  },
  'agent.list': {
    summary: 'The agents that ever registered.',
    body: z.strictObject({}),
    reply: accepted({ agents: z.array(AgentView) }),
  },
  'agent.certify': {
    summary:
      'Enrol an agent: sign its certificate, and make its user at the broker with the permissions of that agent. Operators only.',
    body: CertifyBody,
    reply: accepted(CERTIFIED),
  },
  'agent.invite': {
    summary:
      'Let a host join the fleet by itself as one agent, once and for a limited time: a user at the broker that may only do that, and its certificate. Operators only.',
    body: InviteBody,
    reply: accepted({ ...CERTIFIED, expiresAt: Time }),
  },
  'agent.join': {
    summary:
      'Ask for the certificate of the agent that one is invited to be. The first key that asks is the only one that gets it.',
    body: JoinBody,
    reply: accepted(CERTIFIED),
  },
  'agent.joined': {
    summary: 'The certificate has arrived: the invitation is used up, and its user is removed.',
    body: z.strictObject({}),
    reply: accepted({}),
  },
  'agent.revoke': {
    summary:
      'Shut an agent out: its user at the broker is removed with its connections, and mount agents refuse its certificates. Operators only.',
    body: RevokeBody,
    reply: accepted({ sessions: z.array(SessionId).describe('that are disrupted by it') }),
  },
  'agent.forget': {
    summary:
      'Remove an agent that will never come back, with its queue. Refused while it is connected, and while sessions need it.',
    body: z.strictObject({
      kind: z.enum(['mount', 'target']),
      name: Name,
      sessions: z.boolean().optional().describe('of a target: forget its sessions, too'),
    }),
    reply: accepted({ sessions: z.array(SessionId).describe('that were forgotten with it') }),
  },
} as const satisfies Record<string, { summary: string; body: z.ZodType; reply: z.ZodType }>

/** The same definitions with open bodies: an agent ignores what a newer coordinator adds, but guesses at nothing. */
function instructions<T extends Record<string, { readonly body: z.ZodType }>>(definitions: T): T {
  return mapBodies(definitions, openInstruction)
}

/** The same definitions with open bodies. */
function reports<T extends Record<string, { readonly body: z.ZodType }>>(definitions: T): T {
  return mapBodies(definitions, openReport)
}

function mapBodies<T extends Record<string, { readonly body: z.ZodType }>>(
  definitions: T,
  open: (body: z.ZodType) => z.ZodType,
): T {
  const entries = Object.entries(definitions)
  return Object.fromEntries(entries.map(([type, one]) => [type, { ...one, body: open(one.body) }])) as T
}

/** Commands from the coordinator to one agent: exchange `howdah.agents`, routing key `mount.<agent>` or `target.<agent>`. */
export const AGENT_COMMANDS = instructions({
  'step.run': { summary: 'Run one step of a session; answered by events.', body: StepCommand },
  'step.undo': { summary: 'Undo one step of a session; answered by events.', body: StepCommand },
  'repository.list': {
    summary: 'Read the inventory of the repositories that a mount agent serves.',
    body: z.strictObject({ repository: Name.optional(), instance: RepositoryName.optional() }),
    reply: accepted({ repositories: z.array(RepositoryInventory) }),
  },
  'backup.check': {
    summary: 'The result that resolving would have, without opening the backup; mount agents.',
    body: z.strictObject({ input: StepInput }),
    reply: accepted({ resolved: ResolveResult.optional(), findings: z.array(Finding) }),
  },
  'target.check': {
    summary: 'All findings of a preflight, and an estimate; target agents.',
    body: z.strictObject({ input: StepInput }),
    reply: accepted({ findings: z.array(Finding), estimate: Estimate }),
  },
  'caches.verify': {
    summary: 'Verify write caches and fetched blocks by their checksums and journals; target agents.',
    body: z.object({ timeLimit: TimeLimit }),
    reply: accepted({ items: z.array(DoctorItem) }),
  },
  'session.record': {
    summary:
      'What the journal of an agent knows of a session: the latest step, and how it was published if it is; target agents.',
    body: z.strictObject({ session: SessionId }),
    reply: accepted({
      sequence: Sequence.optional(),
      input: StepInput.optional().describe('of the step recover'),
      recover: RecoverResult.optional(),
    }),
  },
  'agent.revocations': {
    summary: 'Whose certificates are refused from now on; mount agents.',
    body: RevocationList,
  },
  'session.changes': {
    summary: 'What was changed in a published instance up to now; target agents.',
    body: z.strictObject({ session: SessionId }),
    reply: accepted({ changes: Changes }),
  },
} as const satisfies Record<string, { summary: string; body: z.ZodType; reply?: z.ZodType }>)

/** Of which session an event is. The coordinator adds what clients noted on it. */
const ofSession = { session: SessionId, ...Tags.shape }

/** What the coordinator announces of a session, at least once; the same again has the same `message_id`. */
const announced = {
  ...ofSession,
  version: z
    .int()
    .min(0)
    .describe('of the session, growing with each change: what has a lower one than another is older'),
}

const stepOf = {
  ...ofSession,
  step: StepName,
  direction: z.enum(['run', 'undo']),
  sequence: Sequence,
}

const damagedBlock = {
  repository: Name,
  instance: RepositoryName,
  backup: RepositoryName.describe('label of the backup that was published'),
  file: z.string().max(4096).describe('data/… below PGDATA, tblspc/<oid>/… below a tablespace'),
  block: z.int().min(0).describe('number of the 8 KiB block in the file'),
  what: z.string().max(1000),
}

/**
 * Events, on the exchange `howdah.events`. Agents report to the coordinator with the routing key
 * `agent.<kind>.<name>.<event>`; the coordinator publishes for clients with `session.<id>.<event>`.
 */
export const EVENTS = reports({
  'session.state': {
    summary: 'A session changed its state.',
    body: z.object({
      ...announced,
      at: Time,
      state: SessionState,
      previous: SessionState.optional().describe('missing: the session is new'),
      repository: Name,
      instance: RepositoryName,
      target: Name,
      connection: Connection.optional().describe('with `published`'),
      reason: z.string().optional(),
      error: ErrorSchema.optional(),
    }),
  },
  'session.step-started': { summary: 'An agent began a step.', body: z.object(stepOf) },
  'session.step-progress': {
    summary: 'Progress of a step.',
    body: z.object({
      ...stepOf,
      detail: z.string().optional(),
      bytesDone: Bytes.optional(),
      bytesTotal: Bytes.optional(),
      databases: z
        .array(DatabaseExport)
        .optional()
        .describe('of an export; of many only some, those that run or failed first'),
      totals: ExportTotals.optional().describe('of an export: of all its databases'),
    }),
  },
  'session.step-done': {
    summary: 'A step is done.',
    body: z.object({
      ...stepOf,
      result: z
        .record(z.string(), z.unknown())
        .optional()
        .describe('from the agent to the coordinator, which does not pass it on to clients'),
    }),
  },
  'session.step-failed': { summary: 'A step failed.', body: z.object({ ...stepOf, error: ErrorSchema }) },
  'session.step-refused': {
    summary:
      'An agent did not take a step, because its journal has a later one of the session, or another with that number.',
    body: z.object({ ...stepOf, highest: Sequence.describe('the number of the latest step in its journal') }),
  },
  'session.usage': {
    summary: 'Bytes that a published session has fetched and stores.',
    body: z.object({ ...ofSession, usage: Usage }),
  },
  'session.changes': {
    summary: 'What was changed in a published session.',
    body: z.object({ ...ofSession, changes: Changes }),
  },
  'session.findings': {
    summary:
      'Findings of an agent about a session, such as references to other servers in its databases, or a backup that was deleted; they become warnings of the session.',
    body: z.object({ ...ofSession, warnings: z.array(z.string().max(8192)).max(50) }),
  },
  'session.reachability': {
    summary:
      'The mount server of a published session became unreachable from its target, or reachable again.',
    body: z.object({ ...ofSession, ...Reachability.shape }),
  },
  'session.warning': {
    summary:
      'Space or time of a session runs low, or is sufficient again, sent once per threshold; or a note about the published instance, sent once.',
    body: z.object({
      ...announced,
      ...SpaceWarning.shape,
      about: z.enum([...SpaceWarning.shape.about.options, 'publish']),
      level: z
        .enum([...SpaceWarning.shape.level.options, 'note'])
        .describe('note: of publish, as one of the warnings of the session'),
      usage: Usage.optional(),
    }),
  },
  'session.lost': {
    summary: 'A target agent found that the mount or PostgreSQL of a session has ended.',
    body: z.object({
      ...ofSession,
      what: z.enum(['mount', 'postgres']),
      reason: z.string(),
      afterStep: z
        .int()
        .nonnegative()
        .optional()
        .describe(
          'sequence of the last step of the session that had ended by then; older releases do not say it',
        ),
    }),
  },
  'session.damage': {
    summary: 'A block that is damaged in the repository was served to a session.',
    body: z.object({ ...ofSession, ...damagedBlock }),
  },
  'agent.enroll': {
    summary:
      'An agent cannot consume its queue: there is none, and the coordinator declares it; or another process has it, and the coordinator says which.',
    body: z.object({ kind: z.enum(['mount', 'target']), name: Name, instance: z.string() }),
    reply: accepted({
      holder: z
        .object({
          host: z.string(),
          instance: z.string().optional(),
          silentMs: z.int().min(0).describe('since its latest heartbeat'),
        })
        .optional()
        .describe('the process that was last heard under that name'),
    }),
  },
  'agent.renew': {
    summary: 'An agent asks for another certificate, before its own expires.',
    body: RenewBody,
    reply: accepted(CERTIFIED),
  },
  'agent.revocations-wanted': {
    summary: 'A mount agent that starts asks whose certificates are revoked, before it serves anybody.',
    body: RevocationsWantedBody,
    reply: accepted(RevocationList.shape),
  },
  'agent.online': { summary: 'An agent consumes its queue; repeated as heartbeat.', body: AgentView },
  'agent.sessions': {
    summary:
      'The sessions of which something is present on an agent: when that has changed, and from time to time.',
    body: z.object({
      kind: z.enum(['mount', 'target']),
      name: Name,
      sessions: z.array(SessionId).max(1000),
      more: z.int().min(1).optional().describe('how many are not listed'),
    }),
  },
  'agent.offline': {
    summary: 'An agent shut down in an orderly way.',
    body: z.object({ kind: z.enum(['mount', 'target']), name: Name }),
  },
  'repository.damage': {
    summary:
      'A mount agent served a data block that is damaged in the repository; sent once per block, for repositories with verifyPages.',
    body: z.object(damagedBlock),
  },
} as const satisfies Record<string, { summary: string; body: z.ZodType; reply?: z.ZodType }>)

/** Events that only the coordinator publishes; all others are reported by agents. */
const COORDINATOR_EVENTS = [
  'session.state',
  'session.warning',
  'session.damage',
] as const satisfies (keyof typeof EVENTS)[]

/** Commands that only ask: they change nothing, and are not in the way of the others. */
const QUERIES = [
  'instance.check',
  'session.list',
  'session.show',
  'inventory.list',
  'target.doctor',
  'agent.list',
] as const satisfies (keyof typeof COMMANDS)[]

/** What the coordinator publishes for clients: its own events, and what agents report about sessions. */
export const SESSION_EVENT_TYPES: ReadonlySet<string> = new Set(
  Object.keys(EVENTS).filter((type) => type.startsWith('session.') && type !== 'session.step-refused'),
)
export const COORDINATOR_EVENT_TYPES: ReadonlySet<string> = new Set(COORDINATOR_EVENTS)
export const QUERY_TYPES: ReadonlySet<string> = new Set(QUERIES)

export type DoctorItem = z.infer<typeof DoctorItem>
export type Estimate = z.infer<typeof Estimate>
export type CheckReport = z.infer<typeof CheckReport>
export type CommandType = keyof typeof COMMANDS
export type CommandBody<T extends CommandType> = z.infer<(typeof COMMANDS)[T]['body']>
export type CommandReply<T extends CommandType> = z.infer<(typeof COMMANDS)[T]['reply']>
export type AgentCommandType = keyof typeof AGENT_COMMANDS
export type AgentCommandBody<T extends AgentCommandType> = z.infer<(typeof AGENT_COMMANDS)[T]['body']>
/** Commands to agents that are answered by a reply, and not by events. */
export type AgentQueryType = {
  [T in AgentCommandType]: (typeof AGENT_COMMANDS)[T] extends { reply: z.ZodType } ? T : never
}[AgentCommandType]
export type AgentReply<T extends AgentQueryType> = z.infer<(typeof AGENT_COMMANDS)[T]['reply']>
export type EventType = keyof typeof EVENTS
/** What an agent reports to the coordinator. */
export type ReportType = Exclude<EventType, (typeof COORDINATOR_EVENTS)[number]>
/** The types of `SESSION_EVENT_TYPES`. */
export type SessionEventType = Exclude<Extract<EventType, `session.${string}`>, 'session.step-refused'>
export type EventBody<T extends EventType> = z.infer<(typeof EVENTS)[T]['body']>
/** Reports that the coordinator answers with a reply. */
export type ReportQueryType = {
  [T in ReportType]: (typeof EVENTS)[T] extends { reply: z.ZodType } ? T : never
}[ReportType]
export type EventReply<T extends ReportQueryType> = z.infer<(typeof EVENTS)[T]['reply']>
export type MessageType = CommandType | AgentCommandType | EventType
export type { StepReport }
