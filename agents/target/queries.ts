/** What a target agent answers at once, without a step: each query is passed to the part that knows. */
import path from 'node:path'
import { HowdahError } from '../../messages/errors.ts'
import type { StepResult } from '../../messages/steps.ts'
import type { Journal } from '../runtime/journal.ts'
import type { AgentQueries } from '../runtime/query-answers.ts'
import { listedChanges } from './changes/detection.ts'
import type { SessionChanges } from './changes/session-changes.ts'
import { type CheckOptions, checkTarget } from './check.ts'
import { verifyCaches } from './doctor/doctor.ts'
import { readSession } from './session/published-session.ts'

export interface TargetQueriesOptions extends CheckOptions {
  /** Directory of the write caches of all sessions. */
  readonly cacheRoot: string
  readonly changes: Pick<SessionChanges, 'of'>
  readonly journal: Pick<Journal, 'record'>
}

export function targetQueries(options: TargetQueriesOptions): AgentQueries {
  const { cacheRoot, changes, journal, logger } = options
  return {
    'session.record': async ({ session }) => {
      const { sequence, inEffect } = journal.record(session, 'recover')
      return {
        accepted: true,
        ...(sequence !== undefined && { sequence }),
        ...(inEffect && {
          input: inEffect.command.input,
          recover: inEffect.outcome.result as StepResult<'recover'>,
        }),
      }
    },
    'session.changes': async ({ session: id }) => {
      const session = await readSession(path.join(cacheRoot, id))
      if (!session) throw new HowdahError('unknown_session', `this target has no session "${id}"`)
      return { accepted: true, changes: listedChanges(await changes.of(session)) }
    },
    'caches.verify': async ({ timeLimit }) => ({
      accepted: true,
      items: await verifyCaches({ cacheRoot, timeLimitMs: timeLimit * 1000, logger }),
    }),
    'target.check': ({ input }) => checkTarget(input, options),
  }
}
