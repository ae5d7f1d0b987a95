/**
 * The step `resolve`: finds the backup for the recovery target, opens it, and signs the ticket that the target reads it
 * with. And the query `backup.check`: the same, and every finding, without a ticket.
 */
import type { AgentReply, Finding } from '../../messages/definitions.ts'
import { errorBody } from '../../messages/errors.ts'
import type { ResolveResult, StepInput } from '../../messages/steps.ts'
import type { Ticket } from '../dataplane/ticket.ts'
import type { StepHandler } from '../runtime/step-runner.ts'
import { readDatabases } from './catalog/databases.ts'
import type { ArchiveKnowledge } from './recovery/instance-archive.ts'
import { planRecovery, type RecoveryPlan } from './recovery/plan-recovery.ts'
import type { ServedRepositories } from './served-repositories.ts'

export interface ResolveOptions {
  readonly repositories: ServedRepositories
  /** What is known of the archives from before. */
  readonly knowledge: ArchiveKnowledge
  /** Where targets reach this agent's data plane. */
  readonly dataPlane: { readonly mountAgent: string; readonly host: string; readonly port: number }
  readonly sign: (ticket: Ticket) => string
  readonly now: () => number
}

export function resolveStep(options: ResolveOptions): StepHandler<'resolve'> {
  const { sign, now } = options
  return {
    async run({ session, input }) {
      const { repository, instance, target } = input
      const plan = await planFor(options, input)
      const issuedAt = new Date(now()).toISOString()
      const backup = plan.backup.label
      const ticket = sign({ session, repository, instance, backup, target, issuedAt })
      return describe(options, input, plan, ticket)
    },
    async undo() {
      return { undone: [] }
    },
  }
}

/** Never throws for what is wrong with the request or the repository: that is what it tells. */
export async function checkBackup(
  options: ResolveOptions,
  input: StepInput,
): Promise<AgentReply<'backup.check'>> {
  const findings: Finding[] = []
  const failed = (error: unknown): undefined => {
    findings.push(...findingsOf(error))
  }
  const plan = await planFor(options, input).catch(failed)
  for (const { code, message } of plan?.warnings ?? []) findings.push({ level: 'warning', code, message })
  // A backup that was named can be damaged as well as unsuited.
  const label = plan?.backup.label ?? input.backup
  const resolved =
    plan === undefined
      ? label === 'latest' || findings.some(({ field }) => field !== 'recoverTo')
        ? undefined
        : await openable(options, input, label).catch(failed)
      : await describe(options, input, plan, '').catch(failed)
  return { accepted: true, findings, ...(resolved && { resolved }) }
}

async function planFor(
  { repositories, knowledge, now }: ResolveOptions,
  input: StepInput,
): Promise<RecoveryPlan> {
  const instance = await repositories.instance(input.repository, input.instance)
  return planRecovery(input, instance, knowledge, now)
}

async function openable(
  { repositories }: ResolveOptions,
  input: StepInput,
  backup: string,
): Promise<undefined> {
  const opened = await repositories.open({ repository: input.repository, instance: input.instance, backup })
  await opened.close()
}

async function describe(
  { repositories, dataPlane }: ResolveOptions,
  { repository, instance }: StepInput,
  { backup: { label }, recoverTo, walBytes, warnings }: RecoveryPlan,
  ticket: string,
): Promise<ResolveResult> {
  const backup = await repositories.open({ repository, instance, backup: label })
  try {
    const { summary, totalBytes, fileCount, tablespaces } = backup
    const databases = await readDatabases(backup)
    return {
      backup: summary,
      totalBytes,
      fileCount,
      tablespaces: [...tablespaces],
      dataPlane: { ...dataPlane, ticket },
      ...(recoverTo && { recoverTo }),
      ...(walBytes !== undefined && { walBytes }),
      ...(databases && { databases }),
      ...(warnings.length > 0 && { warnings: warnings.map(({ message }) => message) }),
    }
  } finally {
    await backup.close()
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
