/** Deadlines for work that may hang in a mount. */
import { HowdahError } from '../../../messages/errors.ts'

/**
 * What `work` gives, if it does within `ms`. The work itself cannot be called back.
 * @throws HowdahError `timeout` with `message`; what `work` rejects with
 */
export async function withDeadline<T>(work: Promise<T>, ms: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new HowdahError('timeout', message)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
