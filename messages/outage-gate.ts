/**
 * Holds handlers back while something that all of them need is away (`Unavailable`).
 *
 * Open: every handler runs at once. The first one that throws `Unavailable` closes the gate. Closed: after a growing delay
 * the earliest delivery is tried alone; once its handler ends in any other way the gate opens, and the other deliveries
 * follow in their order. Owns no channel and settles nothing.
 */
import type { Logger } from 'pino'
import { type Backoff, backoffMs } from './backoff.ts'
import { isUnavailable } from './unavailable.ts'

export interface OutageGate {
  /**
   * Runs the work when the gate is open, again and again while it throws `Unavailable`. Rejects with every other error.
   * @param order position among the deliveries that wait
   * @param held called when the work has to wait: a signal that ends the wait
   * @returns undefined when the signal aborted before the work was done
   */
  run<T>(order: number, held: () => AbortSignal, work: () => Promise<T>): Promise<T | undefined>
}

interface Waiting {
  readonly order: number
  /** `probe`: it is tried alone. */
  go(turn: 'probe' | 'open' | 'ended'): void
}

export function createOutageGate(backoff: Backoff, logger: Logger): OutageGate {
  const waiting: Waiting[] = []
  let isOpen = true
  let failures = 0
  let isProbing = false
  let timer: NodeJS.Timeout | undefined

  function open(): void {
    if (!isOpen) logger.info('handling messages again')
    isOpen = true
    failures = 0
    for (const { go } of waiting.splice(0)) go('open')
  }

  function close(error: unknown): void {
    if (isOpen) logger.warn({ err: error }, 'messages cannot be handled for the moment, they wait')
    isOpen = false
    if (timer !== undefined || isProbing) return
    failures += 1
    timer = setTimeout(probe, backoffMs(failures, backoff))
  }

  function probe(): void {
    timer = undefined
    const first = waiting.shift()
    isProbing = first !== undefined
    first?.go('probe')
  }

  async function turn(order: number, signal: AbortSignal): Promise<'probe' | 'open' | 'ended'> {
    const { promise, resolve } = Promise.withResolvers<'probe' | 'open' | 'ended'>()
    const entry: Waiting = { order, go: resolve }
    const onAbort = (): void => {
      const index = waiting.indexOf(entry)
      if (index >= 0) waiting.splice(index, 1)
      if (waiting.length === 0) {
        clearTimeout(timer)
        timer = undefined
      }
      resolve('ended')
    }
    if (signal.aborted) return 'ended'
    signal.addEventListener('abort', onAbort, { once: true })
    const later = waiting.findIndex((other) => other.order > order)
    waiting.splice(later < 0 ? waiting.length : later, 0, entry)
    if (timer === undefined && !isProbing) probe()
    const result = await promise
    signal.removeEventListener('abort', onAbort)
    return result
  }

  return {
    async run(order, held, work) {
      let signal: AbortSignal | undefined
      for (;;) {
        let isProbe = false
        if (!isOpen) {
          signal ??= held()
          const result = await turn(order, signal)
          if (result === 'ended') return undefined
          isProbe = result === 'probe'
        }
        let away: unknown
        try {
          return await work()
        } catch (error) {
          if (!isUnavailable(error)) throw error
          away = error
        } finally {
          if (isProbe) {
            isProbing = false
            if (away === undefined) open()
          }
        }
        close(away)
      }
    },
  }
}
