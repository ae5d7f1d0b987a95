/** Commands that change a session. What each changes, and when it is refused, is decided in requests.ts. */
import { timestamp } from '../clock.ts'
import * as requests from '../requests.ts'
import type { Session } from '../session.ts'
import { changeSession } from './change-session.ts'
import type { CommandContext, CommandHandlers } from './command-handlers.ts'
import { knownSession } from './known-session.ts'
import { checkRecoverTo } from './session-request.ts'
import { requireKnownUnchanged } from './unexported-changes.ts'

type SessionCommand =
  | 'session.unpublish'
  | 'session.retry'
  | 'session.cancel'
  | 'session.promote'
  | 'session.advance'
  | 'session.export'
  | 'session.extend'

export function sessionCommands(context: CommandContext): CommandHandlers<SessionCommand> {
  const { now } = context
  return {
    async 'session.unpublish'({ session: id, keepCache, unlessChanged }, delivery) {
      if (unlessChanged && !keepCache)
        await requireKnownUnchanged(context, await knownSession(context.store, id))
      return changeSession(context, delivery, id, (session) => requests.unpublish(session, { keepCache }))
    },

    'session.retry': ({ session: id }, delivery) => changeSession(context, delivery, id, requests.retry),

    'session.cancel': ({ session: id }, delivery) => changeSession(context, delivery, id, requests.cancel),

    'session.promote': ({ session: id }, delivery) => changeSession(context, delivery, id, requests.promote),

    async 'session.advance'({ session: id, recoverTo }, delivery) {
      checkRecoverTo(recoverTo)
      return changeSession(context, delivery, id, (session) => requests.advance(session, recoverTo))
    },

    'session.export'({ session: id, reference: _, labels: __, ...request }, delivery) {
      let added = ''
      const add = (session: Session): void => {
        added = requests.requestExport(session, request, timestamp(now))
      }
      return changeSession(context, delivery, id, add, () => ({ export: added }))
    },

    'session.extend': ({ session: id, expiresIn }, delivery) =>
      changeSession(context, delivery, id, (session) => requests.extend(session, expiresIn, timestamp(now))),
  }
}
