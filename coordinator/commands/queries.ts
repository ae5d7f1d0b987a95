/** Commands that only ask. */
import { checkPublish } from '../check.ts'
import { sessionView } from '../session-view.ts'
import { MAX_HISTORY } from '../store/store.ts'
import type { CommandContext, CommandHandlers } from './command-handlers.ts'
import { knownSession } from './known-session.ts'
import { repositoryInventory } from './repository-inventory.ts'
import { listSessions } from './session-list.ts'
import { sessionRequest } from './session-request.ts'

const DOCTOR_SECONDS = 60
/** What a target takes on top: mount processes that do not answer at once, indexes to be read. */
const DOCTOR_GRACE_MS = 60_000

type Query =
  | 'instance.check'
  | 'session.list'
  | 'session.show'
  | 'inventory.list'
  | 'agent.list'
  | 'target.doctor'

export function queries(context: CommandContext): CommandHandlers<Query> {
  const { store, bus, registry } = context
  return {
    async 'instance.check'(body) {
      return { accepted: true, report: await checkPublish(sessionRequest(body), context) }
    },

    'session.list': (body) => listSessions(store, body),

    async 'session.show'(body) {
      const session = await knownSession(store, body.session)
      if (body.history === false) return { accepted: true, session: sessionView(session) }
      const history = await store.history(session.id, MAX_HISTORY)
      return { accepted: true, session: { ...sessionView(session), history } }
    },

    async 'inventory.list'(body) {
      return { accepted: true, repositories: await repositoryInventory(context, body) }
    },

    async 'agent.list'() {
      return { accepted: true, agents: registry.list() }
    },

    async 'target.doctor'({ target, timeLimit = DOCTOR_SECONDS }) {
      const agent = registry.target(target)
      const timeoutMs = timeLimit * 1000 + DOCTOR_GRACE_MS
      return bus.requestAgent(agent, 'caches.verify', { timeLimit }, { timeoutMs })
    },
  }
}
