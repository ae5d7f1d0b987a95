/**
 * The steps of a session between coordinator and agents: the input and the result of each.
 *
 * A step has `run` and `undo`. Both are safe to repeat; repeating a finished one returns its result again. The coordinator
 * passes each step the results of the previous ones, so an agent stores nothing that it cannot find on its own machine.
 */
import { z } from 'zod'
import { ExportRequest, ExportResult, SqlName } from './exports.ts'
import { openReport } from './open-schema.ts'
import {
  Bytes,
  Name,
  OutboundHost,
  Port,
  RepositoryName,
  Sequence,
  SessionId,
  Time,
  UserName,
} from './primitives.ts'
import { AfterRecovery, BackupSummary, Connection, Paused, Reached, RecoverTo, StepName } from './values.ts'

/** Address and ticket with which the mount process on the target reads the opened backup. */
export const DataPlaneAddress = z.object({
  /** Name of the mount agent, which its certificate must carry. */
  mountAgent: Name,
  host: z.string(),
  port: Port,
  /** Signed by the mount agent; worthless without the target's certificate, so not a secret. */
  ticket: z.string().max(8192),
})

const usedBy = {
  databases: z.int().min(1).describe('how many have it'),
  named: z.array(z.string()).describe('some of them'),
}

/** The databases of a backup in sum, from its own catalog: those that accept connections. */
export const CatalogSummary = z.object({
  databases: z.int().min(0),
  locales: z.array(
    z.object({
      collate: z.string().optional(),
      ctype: z.string().optional(),
      provider: z.enum(['libc', 'icu', 'builtin']).optional(),
      collationVersion: z.string().optional(),
      ...usedBy,
    }),
  ),
  extensions: z.array(z.object({ name: z.string(), ...usedBy })).describe('of the first hundred databases'),
  omitted: z.int().min(1).optional().describe('locales and extensions that are not listed'),
})

export const ResolveResult = z.object({
  backup: BackupSummary,
  totalBytes: Bytes,
  fileCount: z.int().min(0),
  tablespaces: z.array(z.string()),
  dataPlane: DataPlaneAddress,
  /** The recovery target that is used, where it differs from the requested one: a time after the last commit becomes latest. */
  recoverTo: RecoverTo.optional(),
  /** Where recovery will end, as far as the archive shows. */
  reaches: z
    .object({
      lsn: z.string().optional(),
      lastCommit: Time.optional().describe('commit time of the last transaction that the instance will hold'),
      lastCommitLsn: z.string().optional(),
    })
    .optional(),
  /** WAL in the backup itself with which the server is started as it was stopped, without recovery. */
  ownWal: z.array(z.string().regex(/^([0-9A-F]{24}|[0-9A-F]{8}\.history)$/)).optional(),
  /** Bytes of WAL to replay; missing: unknown. */
  walBytes: Bytes.optional(),
  /** Missing: it could not be read ahead. */
  catalog: CatalogSummary.optional(),
  /** shared_preload_libraries of the backup's own configuration files. */
  preloadedLibraries: z.array(z.string()).optional(),
  warnings: z.array(z.string()).optional(),
})

export const PreflightResult = z.object({
  port: Port,
  /** The operating system user that the instance runs as. */
  user: UserName,
  /** Directory of the PostgreSQL executables. */
  binaries: z.string(),
  mountPoint: z.string(),
  cachePath: z.string(),
  warnings: z.array(z.string()),
})

export const MountResult = z.object({
  mountPoint: z.string(),
  cachePath: z.string(),
})

export const RecoverResult = z.object({
  connection: Connection,
  warnings: z.array(z.string()),
  /** Recovery is paused at its target, and the instance is read-only. */
  paused: Paused.optional(),
  reached: Reached.optional(),
})

/** Options of the published instance: the part of `instance.publish` that the target uses. */
export const TargetOptions = z.strictObject({
  user: UserName.optional().describe('operating system user; default: from the target agent configuration'),
  port: Port.optional().describe('default: a free one from the target agent configuration'),
  superuser: SqlName.optional().describe(
    'the role of the backup that Howdah connects as; default: the first superuser that can log in',
  ),
  afterRecovery: AfterRecovery.optional(),
  listen: z
    .array(z.string().min(1).max(255))
    .max(64)
    .optional()
    .describe('addresses that the instance listens on; default: localhost'),
  settings: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_.]{0,126}$/), z.string().max(4096))
    .optional()
    .describe('PostgreSQL settings that override those of the backup and of Howdah'),
  hba: z.string().max(65_536).optional().describe('content of pg_hba.conf; default: local access only'),
  allowOutbound: z
    .array(OutboundHost)
    .max(64)
    .optional()
    .describe('hosts that the instance may connect to, as HOST or HOST:PORT; default: none'),
})

export const StepInput = z.object({
  repository: Name,
  instance: RepositoryName,
  backup: z.union([z.literal('latest'), RepositoryName]),
  recoverTo: RecoverTo,
  target: Name,
  options: TargetOptions,
  resolved: ResolveResult.optional(),
  checked: PreflightResult.optional(),
  mounted: MountResult.optional(),
  /** For the undo of `mount`: the write cache is kept, with the changes in it. */
  keepCache: z.boolean().optional(),
  /** For the run of `mount`: the write cache holds changes, and the step fails when it is missing. */
  resumes: z.boolean().optional(),
  /** For `export`: which, and what. */
  export: z.object({ id: z.string(), request: ExportRequest }).optional(),
})

/** Body of `step.run` and `step.undo`. */
export const StepCommand = z.object({
  session: SessionId,
  step: StepName,
  sequence: Sequence,
  input: StepInput,
})

/** Result of `run` by step. The result of `undo` is `undone`: what was removed, as text. */
export const STEP_RESULTS = {
  resolve: openReport(ResolveResult),
  preflight: openReport(PreflightResult),
  mount: openReport(MountResult),
  recover: openReport(RecoverResult),
  export: openReport(ExportResult),
} as const satisfies Record<StepName, z.ZodType>

export const UndoResult = z.object({ undone: z.array(z.string()) })

export type CatalogSummary = z.infer<typeof CatalogSummary>
export type DataPlaneAddress = z.infer<typeof DataPlaneAddress>
export type ResolveResult = z.infer<typeof ResolveResult>
export type Reaches = NonNullable<ResolveResult['reaches']>
export type PreflightResult = z.infer<typeof PreflightResult>
export type MountResult = z.infer<typeof MountResult>
export type RecoverResult = z.infer<typeof RecoverResult>
export type TargetOptions = z.infer<typeof TargetOptions>
export type StepInput = z.infer<typeof StepInput>
export type StepCommand = z.infer<typeof StepCommand>
export type UndoResult = z.infer<typeof UndoResult>
export type StepResult<S extends StepName> = z.infer<(typeof STEP_RESULTS)[S]>
