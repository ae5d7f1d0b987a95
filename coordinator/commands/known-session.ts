/** Looking up the session that a command names. */
import { HowdahError } from '../../messages/errors.ts'
import type { Session } from '../session.ts'
import type { Store } from '../store/store.ts'

/** @throws HowdahError `unknown_session` */
export async function knownSession(store: Store, id: string): Promise<Session> {
  const session = await store.session(id)
  if (!session) throw unknownSession(id)
  return session
}

export function unknownSession(id: string): HowdahError {
  return new HowdahError(
    'unknown_session',
    `there is no session "${id}"; "howdah sessions --all" lists them`,
    { field: 'session' },
  )
}
