/** The step `resolve`: finds the backup, opens it, and signs the ticket that the target reads it with. */

import type { Ticket } from '../dataplane/ticket.ts'
import type { StepHandler } from '../runtime/step-runner.ts'
import { chooseBackup } from './choose-backup.ts'
import type { ServedRepositories } from './served-repositories.ts'

export interface ResolveOptions {
  readonly repositories: ServedRepositories
  /** Where targets reach this agent's data plane. */
  readonly dataPlane: { readonly mountAgent: string; readonly host: string; readonly port: number }
  readonly sign: (ticket: Ticket) => string
  readonly now: () => number
}

export function resolveStep({ repositories, dataPlane, sign, now }: ResolveOptions): StepHandler<'resolve'> {
  return {
    async run({ session, input }) {
      const { repository, instance, target } = input
      const backups = await (await repositories.instance(repository, instance)).backups()
      const { label } = chooseBackup(input, backups)
      const backup = await repositories.open({ repository, instance, backup: label })
      const { summary, totalBytes, fileCount, tablespaces } = backup
      await backup.close()
      const ticket = {
        session,
        repository,
        instance,
        backup: label,
        target,
        issuedAt: new Date(now()).toISOString(),
      }
      return {
        backup: summary,
        totalBytes,
        fileCount,
        tablespaces: [...tablespaces],
        dataPlane: { ...dataPlane, ticket: sign(ticket) },
      }
    },
    async undo() {
      return { undone: [] }
    },
  }
}
