/** What a target agent answers at once, without a step: each query is passed to the part that knows. */
import path from 'node:path'
import { HowdahError } from '../../messages/errors.ts'
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
}

export function targetQueries(options: TargetQueriesOptions): AgentQueries {
  const { cacheRoot, changes, logger } = options
  return {
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
