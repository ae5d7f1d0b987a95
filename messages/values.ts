/** The values that messages are made of: names, recovery targets, backups, progress, errors. Schemas first, types from them. */
import { z } from 'zod'
import { ERROR_CODES, type ErrorCode } from './errors.ts'

/** Names of agents, repositories and targets: they become queue names and routing key words. */
export const Name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/)
  .describe('letters, digits, _ and -, at most 63')

/** Instance names and backup labels come from the repository. Never a path. */
export const RepositoryName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^(?!\.{1,2}$)[^/\p{Cc}]+$/u)
  .describe('a name as the repository has it: no slash, no control character')

export const SessionId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,39}$/)
  .describe('assigned by the coordinator: a part of the instance name and random characters')

/** POSIX portable user names, and what useradd allows. */
export const UserName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/)

export const Port = z.int().min(1).max(65535)

/** Bytes; a JSON number is exact to 9 PB. */
export const Bytes = z.int().min(0)

/** ISO 8601 with offset. */
export const Time = z.iso.datetime({ offset: true })

export const RecoverTo = z
  .strictObject({
    type: z.enum(['latest', 'immediate', 'time', 'lsn', 'xid', 'name']),
    value: z.string().min(1).max(255).optional().describe('for time, lsn, xid and name'),
    inclusive: z.boolean().optional(),
    timeline: z
      .union([z.int().min(1), z.enum(['latest', 'current'])])
      .optional()
      .describe('default: latest, and current for immediate'),
  })
  .describe('the state asked for; default latest')

const codes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]

export interface ErrorShape {
  code: ErrorCode
  message: string
  field?: string | undefined
  details?: ErrorShape[] | undefined
}

export const ErrorSchema: z.ZodType<ErrorShape> = z.object({
  code: z.enum(codes),
  message: z.string(),
  field: z.string().optional(),
  details: z
    .array(z.object({ code: z.enum(codes), message: z.string(), field: z.string().optional() }))
    .optional()
    .describe('each finding, where there are several'),
})

export const BackupSummary = z.object({
  label: RepositoryName,
  type: z.enum(['full', 'differential', 'incremental', 'snapshot']),
  startedAt: Time.optional(),
  stoppedAt: Time.optional(),
  /** Sum of the sizes of the files, as PostgreSQL sees them. */
  bytes: Bytes.optional(),
  /** What it takes in the repository. */
  repositoryBytes: Bytes.optional(),
  parent: RepositoryName.optional(),
  postgresVersion: z.string().describe('major version, e.g. "15" or "9.6"'),
  systemIdentifier: z.string().optional().describe('64 bits, as decimal digits'),
  startLsn: z.string().optional(),
  stopLsn: z.string().optional(),
  timeline: z.int().min(1).optional(),
  startWal: z.string().optional().describe('the first WAL segment that recovery needs'),
  stopWal: z.string().optional().describe('the last WAL segment needed to be consistent'),
  unusable: z.string().optional().describe('why it cannot be published'),
})

export const InstanceInventory = z.object({
  instance: RepositoryName,
  backups: z.array(BackupSummary),
  error: ErrorSchema.optional(),
})

export const RepositoryInventory = z.object({
  repository: Name,
  format: z.enum(['pgbackrest', 'barman', 'basebackup']),
  mountAgent: Name,
  instances: z.array(InstanceInventory),
  error: ErrorSchema.optional(),
})

/** Counts the step commands of one session; the highest is the one that counts. */
export const Sequence = z.int().min(1)

/** The steps of publishing in their order; undone in reverse. `resolve` is the mount agent's, the others the target's. */
export const STEPS = ['resolve', 'preflight', 'mount', 'recover'] as const
export const StepName = z.enum(STEPS)

export const SESSION_STATES = [
  'validating',
  'mounting',
  'recovering',
  'published',
  'disrupted',
  'unpublishing',
  'closed',
  'failed',
] as const
export const SessionState = z.enum(SESSION_STATES)

/** What a client connects with. */
export const Connection = z.object({
  host: z
    .string()
    .describe("libpq's host on the target: the socket directory while the instance listens locally only"),
  port: Port,
  socketDirectory: z.string(),
  user: z.string().describe('a superuser of the instance'),
})

/** How much of a session's backup was read, and what its changes take. An older agent does not tell of room. */
export const Usage = z.object({
  fetchedBytes: Bytes.describe('read from the mount server so far'),
  totalBytes: Bytes.describe('size of the backup'),
  cacheBytes: Bytes.describe('space the write cache takes on the target, pg_wal included'),
  changedBytes: Bytes.optional().describe('what of it are changed blocks: this is what the quota limits'),
  quotaBytes: Bytes.nullable().optional().describe('what they may take; null: no limit but the reserve'),
  freeBytes: Bytes.optional().describe("free on the write cache's file system above the reserve"),
  reserveBytes: Bytes.optional().describe('what sessions leave free there'),
})

/** Room that runs out on a target, or is there again; the last one about each matter is what holds. */
export const SpaceWarning = z.object({
  about: z.enum(['quota', 'free-space']),
  level: z
    .enum(['low', 'critical', 'cleared'])
    .describe('quota: past 80 % and 95 %; free-space: less than the reserve above it, and none'),
  message: z.string(),
  at: Time,
})

export const StepReport = z.object({
  step: StepName,
  direction: z.enum(['run', 'undo']),
  sequence: Sequence,
  status: z.enum(['sent', 'running', 'done', 'failed']),
  startedAt: Time,
  finishedAt: Time.optional(),
  detail: z.string().optional(),
  bytesDone: Bytes.optional(),
  bytesTotal: Bytes.optional(),
  error: ErrorSchema.optional(),
})

/** What clients see of a session; `howdah publish --json` and `show --json` print it. */
export const SessionView = z.object({
  id: SessionId,
  state: SessionState,
  step: StepName.optional(),
  repository: Name,
  instance: RepositoryName,
  backup: z.string().describe('the label, or "latest" until it is resolved'),
  recoverTo: RecoverTo,
  target: Name,
  createdAt: Time,
  updatedAt: Time,
  connection: Connection.optional(),
  mountPoint: z.string().optional(),
  writeCache: z.object({ path: z.string(), bytes: Bytes }).optional(),
  usage: Usage.optional(),
  steps: z.array(StepReport),
  error: ErrorSchema.optional(),
  warnings: z.array(z.string()).describe('what holds now'),
  warningHistory: z.array(SpaceWarning).optional().describe('room that ran out or came back, oldest first'),
  undone: z.array(z.string()).describe('what the clean-up after a failure or unpublish took back').optional(),
})

export const AgentView = z.object({
  kind: z.enum(['mount', 'target']),
  name: Name,
  online: z.boolean(),
  lastSeen: Time,
  version: z.string(),
  host: z.string(),
  repositories: z
    .array(z.object({ name: Name, format: z.enum(['pgbackrest', 'barman', 'basebackup']) }))
    .optional(),
  postgresVersions: z.array(z.string()).optional(),
})

export type RecoverTo = z.infer<typeof RecoverTo>
export type BackupSummary = z.infer<typeof BackupSummary>
export type InstanceInventory = z.infer<typeof InstanceInventory>
export type RepositoryInventory = z.infer<typeof RepositoryInventory>
export type StepName = z.infer<typeof StepName>
export type SessionState = z.infer<typeof SessionState>
export type Connection = z.infer<typeof Connection>
export type Usage = z.infer<typeof Usage>
export type SpaceWarning = z.infer<typeof SpaceWarning>
export type StepReport = z.infer<typeof StepReport>
export type SessionView = z.infer<typeof SessionView>
export type AgentView = z.infer<typeof AgentView>
