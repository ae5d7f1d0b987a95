/** The values of messages: recovery targets, backups, sessions, progress. Types are inferred from the schemas. */
import { z } from 'zod'
import { ExportView } from './exports.ts'
import { Tags } from './labels.ts'
import { decides } from './open-schema.ts'
import { Bytes, ErrorSchema, Name, Port, RepositoryName, Sequence, SessionId, Time } from './primitives.ts'

export const RecoverTo = z
  .strictObject({
    type: decides(z.enum(['latest', 'immediate', 'time', 'lsn', 'xid', 'name'])),
    value: z.string().min(1).max(255).optional().describe('for time, lsn, xid and name'),
    inclusive: z.boolean().optional(),
    timeline: z
      .union([z.int().min(1), decides(z.enum(['latest', 'current']))])
      .optional()
      .describe('default: latest, and current for immediate'),
  })
  .describe('the recovery target; default latest')

/** The action when the recovery target is reached. */
export const AfterRecovery = decides(
  z
    .enum(['promote', 'pause'])
    .describe('promote: writable; pause: read-only, and can be moved further forward. Default promote'),
)

export const BackupSummary = z.object({
  label: RepositoryName,
  type: z.enum(['full', 'differential', 'incremental', 'snapshot']),
  startedAt: Time.optional(),
  stoppedAt: Time.optional(),
  /** Sum of the file sizes as PostgreSQL sees them. */
  bytes: Bytes.optional(),
  /** Space that it takes in the repository. */
  repositoryBytes: Bytes.optional(),
  parent: RepositoryName.optional(),
  postgresVersion: z.string().describe('major version, e.g. "15" or "9.6"'),
  systemIdentifier: z.string().optional().describe('64 bits, as decimal digits'),
  startLsn: z.string().optional(),
  stopLsn: z.string().optional(),
  timeline: z.int().min(1).optional(),
  startWal: z.string().optional().describe('the first WAL segment that recovery needs'),
  stopWal: z.string().optional().describe('the last WAL segment needed to be consistent'),
  offline: z
    .boolean()
    .optional()
    .describe('taken while the server was stopped: it needs no other WAL than its own'),
  unusable: z.string().optional().describe('why it cannot be published'),
  warnings: z.array(z.string()).optional().describe('known problems that do not prevent publishing'),
})

/** A period within which an instance can be recovered to any point, because its WAL has no gap. */
export const RecoverableWindow = z.object({
  timeline: z.int().min(1),
  from: Time.describe('end of the first backup in it'),
  to: Time.optional().describe('the last commit in the archive; missing: unknown'),
  fromLsn: z.string(),
  toLsn: z.string(),
  backups: z.array(RepositoryName).describe('backups that recovery into it can start from, oldest first'),
  missingWal: z.string().optional().describe('the first segment that is missing after it'),
})

export const InstanceInventory = z.object({
  instance: RepositoryName,
  backups: z.array(BackupSummary),
  windows: z.array(RecoverableWindow).optional().describe('oldest first'),
  databases: z
    .array(z.string())
    .optional()
    .describe('of the newest backup, if it lists them; of many only the first'),
  moreDatabases: z.int().min(1).optional().describe('how many databases are not listed'),
  warnings: z.array(z.string()).optional().describe('problems of its WAL archive'),
  error: ErrorSchema.optional(),
})

export const RepositoryInventory = z.object({
  repository: Name,
  format: z.enum(['pgbackrest', 'barman', 'basebackup']),
  mountAgent: Name,
  instances: z.array(InstanceInventory),
  error: ErrorSchema.optional(),
})

/** The steps of publishing in their order; undone in reverse. The mount agent runs `resolve`, the target agent the others. */
export const STEPS = ['resolve', 'preflight', 'mount', 'recover'] as const
/** All steps. `export` is run on a published session on request. */
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

/** How a client connects to the instance. */
export const Connection = z.object({
  host: z
    .string()
    .describe("libpq's host on the target: the socket directory while the instance listens locally only"),
  port: Port,
  socketDirectory: z.string(),
  user: z.string().describe('a superuser of the instance, or a user who becomes one with `role`'),
  role: z.string().optional().describe('where no superuser may log in: the one that `user` is a member of'),
  database: z.string().optional().describe('one that accepts connections; missing: postgres'),
})

/** The position of a paused recovery. */
export const Paused = z.object({
  lsn: z.string().describe('replayed up to here'),
  lastCommit: Time.optional().describe('time of the last transaction that was replayed'),
})

/** How far the published instance was recovered: which transactions of production it holds. */
export const Reached = z.object({
  lsn: z.string().describe('replayed up to here'),
  lastCommit: Time.optional().describe(
    'time of the last transaction that was replayed; missing: there was none after the backup',
  ),
  secondsBefore: z
    .int()
    .min(0)
    .optional()
    .describe('for a recovery to a time: seconds from the last transaction to that time'),
})

/** How much of the backup a session has read, and the space that its changes take. Older agents do not report the space. */
export const Usage = z.object({
  fetchedBytes: Bytes.describe('read from the mount server so far'),
  totalBytes: Bytes.describe('size of the backup'),
  cacheBytes: Bytes.describe('space the write cache takes on the target, pg_wal included'),
  changedBytes: Bytes.optional().describe('of these, changed blocks, which the quota limits'),
  quotaBytes: Bytes.nullable().optional().describe('limit of changedBytes; null: none but the reserve'),
  freeBytes: Bytes.optional().describe("free on the write cache's file system above the reserve"),
  reserveBytes: Bytes.optional().describe('kept free there by sessions'),
})

/** Space or time of a session that runs low, or is sufficient again. The last one about each subject is valid. */
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

/** Changes in a published instance since it was published. */
export const Changes = z.object({
  changed: z.boolean().describe('whether any transaction has written since then'),
  databases: z.array(z.string()).describe('those that are known to have changed since their last export'),
  more: z.int().min(1).optional().describe('how many of them are not listed'),
})

/** Whether the mount server can be reached. While it cannot, local reads and all writes still work. */
export const Reachability = z.object({
  reachable: z.boolean(),
  since: Time,
  failedReads: z
    .int()
    .min(0)
    .describe('reads that have failed with EIO since, because their deadline passed'),
  reason: z.string().optional(),
})

/** One entry of the history of a session, which is ordered by number. */
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
  milliseconds: z.number().min(0).optional().describe('duration of a step that ended'),
  error: ErrorSchema.optional(),
})

/** A session as clients see it; `howdah publish --json` and `show --json` print it. */
export const SessionView = z.object({
  id: SessionId,
  version: z.int().min(0).describe('grows with each change; that of an event says whether it is older'),
  state: SessionState,
  step: StepName.optional(),
  repository: Name,
  instance: RepositoryName,
  backup: z.string().describe('the label, or "latest" until it is resolved'),
  recoverTo: RecoverTo,
  target: Name,
  ...Tags.shape,
  messageId: z.string().optional().describe('message_id of the command that made it'),
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
  retryAt: Time.optional().describe('when the failed step is retried automatically'),
  awaitsRetry: z
    .boolean()
    .optional()
    .describe('it is not retried automatically any more: session.retry or session.unpublish'),
  changes: Changes.optional(),
  reachability: Reachability.optional(),
  exports: z.array(ExportView).optional(),
  keptCache: z.boolean().optional().describe('closed, with its changes kept for session.retry'),
  history: z.array(HistoryEntry).optional().describe('in session.show only'),
  warnings: z.array(z.string()).describe('current warnings'),
  warningHistory: z.array(SpaceWarning).optional().describe('warnings about space and time, oldest first'),
  undone: z.array(z.string()).describe('what the clean-up after a failure or unpublish removed').optional(),
})

export const AgentView = z.object({
  kind: z.enum(['mount', 'target']),
  name: Name,
  online: z.boolean(),
  lastSeen: Time,
  version: z.string(),
  contract: z
    .object({ oldest: z.int().min(1), newest: z.int().min(1) })
    .optional()
    .describe('versions of the contract that it understands; missing: 1'),
  host: z.string(),
  instance: z.string().optional().describe('identifies the process: a random text'),
  repositories: z
    .array(z.object({ name: Name, format: z.enum(['pgbackrest', 'barman', 'basebackup']) }))
    .optional(),
  postgresVersions: z.array(z.string()).optional(),
  limits: z
    .object({
      sessions: z.int().min(1).nullable().describe('concurrent sessions; null: no limit'),
      cacheBytes: Bytes.nullable().describe('write caches of all sessions in total; null: no limit'),
    })
    .optional()
    .describe('limits of a target agent'),
  dataPlane: z
    .object({ host: z.string(), port: z.int().min(1).max(65_535) })
    .optional()
    .describe('where target servers reach a mount agent'),
  certificate: z
    .object({
      user: z.string().max(100).describe('its common name'),
      notAfter: Time.describe('when it expires'),
    })
    .optional()
    .describe('with which it logs in to the data plane, and to the broker unless that is by password'),
  revocations: z
    .int()
    .min(0)
    .optional()
    .describe('version of the list of revoked certificates that a mount agent goes by'),
  revoked: z.boolean().optional().describe('the agent was shut out; the coordinator says so'),
  orphans: z
    .array(SessionId)
    .optional()
    .describe('sessions of which something is left there although none is known: session.adopt'),
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
