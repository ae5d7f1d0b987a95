/**
 * The step `resolve`: finds the backup for the recovery target, opens it, and signs the ticket with which the target
 * reads it. Also the query `backup.check`: the same without a ticket, with every finding.
 */
import type { AgentReply } from '../../messages/definitions.ts'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { Finding } from '../../messages/primitives.ts'
import type { ResolveResult, StepInput } from '../../messages/steps.ts'
import type { Ticket } from '../dataplane/protocol/ticket.ts'
import type { StepHandler } from '../runtime/step-runner.ts'
import { readDatabases } from './catalog/databases.ts'
import { readPreloadedLibraries } from './catalog/preloaded-libraries.ts'
import { summarizeCatalog } from './catalog/summary.ts'
import type { HeldBackups } from './held-backups.ts'
import type { ArchiveKnowledge } from './recovery/instance-archive.ts'
import type { Search } from './recovery/locate-target.ts'
import { planRecovery, type RecoveryPlan } from './recovery/plan-recovery.ts'
import type { OpenBackup } from './repository.ts'
import type { ServedRepositories } from './served-repositories.ts'

export interface ResolveOptions {
  readonly repositories: ServedRepositories
  /** What earlier requests found out about the archives. */
  readonly knowledge: ArchiveKnowledge
  /** Where targets reach this agent's data plane. */
  readonly dataPlane: { readonly mountAgent: string; readonly host: string; readonly port: number }
  readonly sign: (ticket: Ticket) => string
  readonly now: () => number
}

/** A check must be answered soon: how long it may search for a restore point or a transaction. */
const CHECK_SEARCH_MS = 10_000
/** Damaged files that a warning lists. */
const FILES_NAMED = 5

/** @param held takes the backup, for the mount that follows */
export function resolveStep(options: ResolveOptions, held: HeldBackups): StepHandler<'resolve'> {
  const { sign, now } = options
  return {
    async run({ session, input }, { signal, progress }) {
      const { repository, instance, target } = input
      const search = { signal, progress: (detail: string) => progress({ detail }) }
      const plan = await planFor(options, input, search)
      const issuedAt = new Date(now()).toISOString()
      const backup = plan.backup.label
      const ticket = sign({ session, repository, instance, backup, target, issuedAt })
      const opened = await options.repositories.open({ repository, instance, backup })
      const { result, remarks } = await describe(opened, options, input, plan, ticket)
      held.hold({ repository, instance, backup }, opened)
      const warnings = [...plan.warnings.map(({ message }) => message), ...remarks]
      return { ...result, ...(warnings.length > 0 && { warnings }) }
    },
    async undo() {
      return { undone: [] }
    },
  }
}

/** Never throws for what is wrong with the request or the repository: those are its findings. */
export async function checkBackup(
  options: ResolveOptions,
  input: StepInput,
): Promise<AgentReply<'backup.check'>> {
  const findings: Finding[] = []
  const failed = (error: unknown): undefined => {
    findings.push(...findingsOf(error))
  }
  const until = options.now() + CHECK_SEARCH_MS
  const search = { isOver: () => options.now() > until }
  const plan = await planFor(options, input, search).catch(failed)
  for (const { code, message } of plan?.warnings ?? []) findings.push({ level: 'warning', code, message })
  // A backup that the request names may be damaged as well as unsuitable.
  const label = plan?.backup.label ?? input.backup
  const resolved =
    plan === undefined
      ? label === 'latest' || findings.some(({ field }) => field !== 'recoverTo')
        ? undefined
        : await openable(options, input, label).catch(failed)
      : await describeOnly(options, input, plan).catch(failed)
  for (const message of resolved?.remarks ?? []) {
    findings.push({ level: 'warning', code: 'backup_damaged', message })
  }
  return { accepted: true, findings, ...(resolved && { resolved: resolved.result }) }
}

async function planFor(
  { repositories, knowledge, now }: ResolveOptions,
  input: StepInput,
  search: Search,
): Promise<RecoveryPlan> {
  const instance = await repositories.instance(input.repository, input.instance)
  return planRecovery(input, instance, knowledge, now, search)
}

async function openable(
  { repositories }: ResolveOptions,
  input: StepInput,
  backup: string,
): Promise<undefined> {
  const opened = await repositories.open({ repository: input.repository, instance: input.instance, backup })
  await opened.close()
}

interface Description {
  readonly result: ResolveResult
  /** Known defects of the backup. */
  readonly remarks: readonly string[]
}

/** Damage that the backup tool recorded, with the first files. */
function pageRemarks({ summary, pageErrors }: OpenBackup): string[] {
  if (pageErrors.length === 0) return [...(summary.warnings ?? [])]
  const shown = pageErrors.slice(0, FILES_NAMED)
  const more = pageErrors.length - shown.length
  return [
    `backup ${summary.label} has damaged pages, found by the backup tool when it was taken, in ${shown.join(', ')}${more > 0 ? ` and ${more} more files` : ''}: reading them fails with "invalid page"; pg_filenode_relation(0, N) in the database of that directory names the relation`,
  ]
}

async function describeOnly(
  options: ResolveOptions,
  input: StepInput,
  plan: RecoveryPlan,
): Promise<Description> {
  const { repository, instance } = input
  const opened = await options.repositories.open({ repository, instance, backup: plan.backup.label })
  const described = await describe(opened, options, input, plan, '')
  await opened.close()
  return described
}

/** Closes the backup where it fails. */
async function describe(
  backup: OpenBackup,
  { dataPlane }: ResolveOptions,
  { options }: StepInput,
  { backup: { label }, recoverTo, walBytes, reaches, withoutRecovery }: RecoveryPlan,
  ticket: string,
): Promise<Description> {
  try {
    const { summary, totalBytes, fileCount, tablespaces, ownWal } = backup
    const starts = withoutRecovery === true && ownWal !== undefined
    if (starts && options.afterRecovery === 'pause') {
      throw new HowdahError(
        'backup_unsupported',
        `backup ${label} was taken of a server that was stopped, and is started without recovery: there is none that could be paused`,
        { field: 'afterRecovery' },
      )
    }
    const [databases, preloadedLibraries] = await Promise.all([
      readDatabases(backup),
      readPreloadedLibraries(backup),
    ])
    const result: ResolveResult = {
      backup: summary,
      totalBytes,
      fileCount,
      tablespaces: [...tablespaces],
      dataPlane: { ...dataPlane, ticket },
      ...(recoverTo && { recoverTo }),
      ...(walBytes !== undefined && { walBytes }),
      ...(reaches && { reaches }),
      ...(starts && { ownWal: [...ownWal] }),
      ...(databases && { catalog: summarizeCatalog(databases) }),
      ...(preloadedLibraries && { preloadedLibraries }),
    }
    return { result, remarks: pageRemarks(backup) }
  } catch (error) {
    await backup.close()
    throw error
  }
}

function findingsOf(error: unknown): Finding[] {
  const { details, ...body } = errorBody(error)
  return (details ?? [body]).map(({ code, message, field }) => ({
    level: 'error',
    code,
    message,
    ...(field !== undefined && { field }),
  }))
}
