/** The values that messages are made of: recovery targets, backups, sessions, progress. Schemas first, types from them. */
import { z } from 'zod'
import { ExportView } from './exports.ts'
import { Bytes, ErrorSchema, Name, Port, RepositoryName, Sequence, SessionId, Time } from './primitives.ts'

export * from './exports.ts'
export * from './primitives.ts'

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

/** What happens when the recovery target is reached. */
export const AfterRecovery = z
  .enum(['promote', 'pause'])
  .describe('promote: writable; pause: read-only, and can be moved further forward. Default promote')

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
  offline: z.boolean().optional().describe('taken of a server that was stopped: it needs no WAL but its own'),
  unusable: z.string().optional().describe('why it cannot be published'),
  warnings: z
    .array(z.string())
    .optional()
    .describe('what is known to be wrong with it, though it can be published'),
})

/** A span of time that an instance can be recovered to without a gap in its WAL. */
export const RecoverableWindow = z.object({
  timeline: z.int().min(1),
  from: Time.describe('the end of the first backup in it'),
  to: Time.optional().describe('the last commit in the archive; missing: not known'),
  fromLsn: z.string(),
  toLsn: z.string(),
  backups: z.array(RepositoryName).describe('backups that recovery to it can begin with, oldest first'),
  missingWal: z.string().optional().describe('the first segment that is missing after it'),
})

export const InstanceInventory = z.object({
  instance: RepositoryName,
  backups: z.array(BackupSummary),
  windows: z.array(RecoverableWindow).optional().describe('oldest first'),
  databases: z.array(z.string()).optional().describe('of the newest backup, where it names them'),
  warnings: z.array(z.string()).optional().describe('what is wrong with its WAL archive'),
  error: ErrorSchema.optional(),
})

export const RepositoryInventory = z.object({
  repository: Name,
  format: z.enum(['pgbackrest', 'barman', 'basebackup']),
  mountAgent: Name,
  instances: z.array(InstanceInventory),
  error: ErrorSchema.optional(),
})

/** The steps of publishing in their order; undone in reverse. `resolve` is the mount agent's, the others the target's. */
export const STEPS = ['resolve', 'preflight', 'mount', 'recover'] as const
/** All steps: `export` is done on a published session, whenever somebody asks for it. */
export const StepName = z.enum([...STEPS, 'export'])

export const SESSION_STATES = [
  'validating',
  'mounting',
  'recovering',
  'published',
  'exporting',
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
  user: z.string().describe('a superuser of the instance, or who becomes one by `role`'),
  role: z.string().optional().describe('where no superuser may log in: the one that `user` is a member of'),
  database: z.string().optional().describe('one that takes connections; missing: postgres'),
})

/** Where a paused recovery stands. */
export const Paused = z.object({
  lsn: z.string().describe('replayed up to here'),
  lastCommit: Time.optional().describe('time of the last transaction that was replayed'),
})

/** How far what is published goes: what of production's transactions it holds. */
export const Reached = z.object({
  lsn: z.string().describe('replayed up to here'),
  lastCommit: Time.optional().describe(
    'time of the last transaction that was replayed; missing: none was after the backup',
  ),
  secondsBefore: z
    .int()
    .min(0)
    .optional()
    .describe('of a recovery to a time: how long before it the last transaction was'),
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

/** Room or time that runs out for a session, or is there again; the last one about each matter is what holds. */
export const SpaceWarning = z.object({
  about: z.enum(['quota', 'free-space', 'expiry']),
  level: z
    .enum(['low', 'critical', 'cleared'])
    .describe(
      'quota: past 80 % and 95 %; free-space: less than the reserve above it, and none; expiry: a quarter of the time left, and a twentieth',
    ),
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

/** What was changed in a published instance since it was published. */
export const Changes = z.object({
  changed: z.boolean().describe('whether any transaction wrote since then'),
  databases: z.array(z.string()).describe('those that are known to have changed and were not exported since'),
})

/** How the mount server is reached, where it is not: local reads and all writes go on meanwhile. */
export const Reachability = z.object({
  reachable: z.boolean(),
  since: Time,
  failedReads: z.int().min(0).describe('reads that got EIO since, because their deadline passed'),
  reason: z.string().optional(),
})

/** One thing that happened to a session; the history is in the order of its numbers. */
export const HistoryEntry = z.object({
  number: z.int().min(1),
  at: Time,
  type: z.enum(['command', 'state', 'step', 'warning', 'disruption', 'export']),
  text: z.string().describe('for people, one line'),
  state: SessionState.optional(),
  step: StepName.optional(),
  direction: z.enum(['run', 'undo']).optional(),
  sequence: Sequence.optional(),
  status: z.enum(['sent', 'running', 'done', 'failed']).optional(),
  milliseconds: z.number().min(0).optional().describe('how long a step took that ended'),
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
  afterRecovery: AfterRecovery.optional(),
  paused: Paused.optional(),
  reached: Reached.optional(),
  expiresAt: Time.optional(),
  retryAt: Time.optional().describe('when the failed step is tried again by itself'),
  awaitsRetry: z
    .boolean()
    .optional()
    .describe('it does not go on by itself any more: session.retry, or unpublish'),
  changes: Changes.optional(),
  reachability: Reachability.optional(),
  exports: z.array(ExportView).optional(),
  keptCache: z.boolean().optional().describe('closed, with its changes kept for session.retry'),
  history: z.array(HistoryEntry).optional().describe('in session.show only'),
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
  limits: z
    .object({
      sessions: z.int().min(1).nullable().describe('sessions at a time; null: no limit'),
      cacheBytes: Bytes.nullable().describe('write caches of all sessions together; null: no limit'),
    })
    .optional()
    .describe('what a target agent takes'),
})

export type RecoverTo = z.infer<typeof RecoverTo>
export type AfterRecovery = z.infer<typeof AfterRecovery>
export type Paused = z.infer<typeof Paused>
export type Reached = z.infer<typeof Reached>
export type Changes = z.infer<typeof Changes>
export type Reachability = z.infer<typeof Reachability>
export type HistoryEntry = z.infer<typeof HistoryEntry>
export type RecoverableWindow = z.infer<typeof RecoverableWindow>
/** A step of publishing: `STEPS`. */
export type PublishStep = (typeof STEPS)[number]
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
