/** The refusal of a session that a target has no room for. The limits themselves are held by the store. */
import { HowdahError } from '../../messages/errors.ts'
import type { TargetLimits, TargetUsage } from '../store/store.ts'

export function limitReached(
  target: string,
  { sessions, cacheBytes }: TargetLimits = { sessions: null, cacheBytes: null },
  usage: TargetUsage,
): HowdahError {
  const message =
    sessions !== null && usage.sessions >= sessions
      ? `the target "${target}" takes ${sessions} sessions at a time and has ${usage.sessions}; unpublish one, or raise limits.sessions of its agent`
      : `the write caches of the target "${target}" take ${usage.cacheBytes} bytes of the ${cacheBytes} that limits.cacheBytes of its agent allows; unpublish a session, or raise it`
  return new HowdahError('limit_reached', message, { field: 'target' })
}
