/** What a publish asks for, from the body of its command. */
import type { CommandBody } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import type { RecoverTo } from '../../messages/values.ts'
import type { SessionRequest } from '../session.ts'

/** Fills in the defaults and leaves out what was not given. @throws HowdahError `invalid_message` */
export function sessionRequest(body: CommandBody<'instance.publish'>): SessionRequest {
  const { repository, instance, target, backup = 'latest', recoverTo = { type: 'latest' } } = body
  checkRecoverTo(recoverTo)
  const { user, port, superuser, afterRecovery, listen, settings, hba, allowOutbound } = body
  const options = { user, port, superuser, afterRecovery, listen, settings, hba, allowOutbound }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  return { repository, instance, backup, recoverTo, target, options: given }
}

/** @throws HowdahError `invalid_message` when a recovery target lacks the value that its type needs, or has one too many */
export function checkRecoverTo(recoverTo: RecoverTo | undefined): void {
  if (!recoverTo) return
  const { type, value } = recoverTo
  const wantsValue = type !== 'latest' && type !== 'immediate'
  if (wantsValue === (value !== undefined)) return
  throw new HowdahError(
    'invalid_message',
    wantsValue ? `recoverTo.type "${type}" needs a value` : `recoverTo.type "${type}" takes no value`,
    { field: 'recoverTo.value' },
  )
}
