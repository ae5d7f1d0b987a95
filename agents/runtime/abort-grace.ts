/** Owns how long an aborted step is waited for. */
import { pause } from '../../messages/wait.ts'

/**
 * What `outcome` resolves to, or undefined once `signal` has been aborted for `graceMs` and `outcome` is still pending.
 * `outcome` must not reject.
 */
export async function settledWithinGrace<T extends object>(
  outcome: Promise<T>,
  signal: AbortSignal,
  graceMs: number,
): Promise<T | undefined> {
  const settled = new AbortController()
  const graceOver = (async () => {
    await untilAborted(AbortSignal.any([signal, settled.signal]))
    await pause(graceMs, settled.signal)
    return undefined
  })()
  try {
    return await Promise.race([outcome, graceOver])
  } finally {
    settled.abort()
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
