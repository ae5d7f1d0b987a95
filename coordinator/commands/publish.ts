/** Commands that publish: a new session, or a session again. */
import { HowdahError } from '../../messages/errors.ts'
import { timestamp } from '../clock.ts'
import * as requests from '../requests.ts'
import { changeSession } from './change-session.ts'
import type { CommandContext, CommandHandlers } from './command-handlers.ts'
import { knownSession } from './known-session.ts'
import { addSession } from './new-session.ts'
import { checkRecoverTo, sessionRequest } from './session-request.ts'
import { requireNoChanges } from './unexported-changes.ts'

export function publishCommands(
  context: CommandContext,
): CommandHandlers<'instance.publish' | 'session.republish'> {
  const { store, registry, now } = context
  return {
    async 'instance.publish'(body, delivery) {
      const mountAgent = registry.forRepository(body.repository).name
      return addSession(context, delivery, {
        request: sessionRequest(body),
        mountAgent,
        prepare(session) {
          if (body.expiresIn !== undefined) requests.extend(session, body.expiresIn, session.createdAt)
          if (body.export) {
            session.exportOnly = true
            requests.addExport(session, body.export, timestamp(now))
          }
        },
      })
    },

    /** Alongside: a session of its own with the same request. In place: the changes in the session are discarded. */
    async 'session.republish'(body, delivery) {
      checkRecoverTo(body.recoverTo)
      const session = await knownSession(store, body.session)
      if (body.port !== undefined && !body.alongside) {
        throw new HowdahError('invalid_message', 'a port can be chosen for a republish alongside only', {
          field: 'port',
        })
      }
      if (body.alongside) {
        const request = requests.requestAgain(session, body)
        const { port: _, ...options } = request.options
        return addSession(context, delivery, {
          request: {
            ...request,
            options: { ...options, ...(body.port !== undefined && { port: body.port }) },
          },
          mountAgent: session.mountAgent,
        })
      }
      if (!body.discardChanges) await requireNoChanges(context, session)
      return changeSession(context, delivery, body.session, (latest) =>
        requests.republish(latest, requests.requestAgain(latest, body)),
      )
    },
  }
}
