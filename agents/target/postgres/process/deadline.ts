/** Deadlines for work that may hang in a mount. */
import { HowdahError } from '../../../../messages/errors.ts'

/**
 * The result of `work`, if it settles within `ms`. The work itself is not cancelled.
 * @throws HowdahError `timeout` with `message`; what `work` rejects with; the signal's reason
 */
export async function withDeadline<T>(
  work: Promise<T>,
  ms: number,
  message: string,
  signal?: AbortSignal,
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new HowdahError('timeout', message)), ms)
  const aborted = () => reject(signal?.reason)
  signal?.addEventListener('abort', aborted)
  if (signal?.aborted) aborted()
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', aborted)
  }
}
