/** Owns how many steps of one kind run at the same time. */

export interface Slots {
  readonly count: number
  /**
   * Resolves with the function that gives the slot back, in the order of the calls; undefined when the signal aborts first.
   * `onWait` is called when there is none free.
   */
  acquire(signal: AbortSignal, onWait: () => void): Promise<(() => void) | undefined>
}

export function createSlots(count: number): Slots {
  const waiting = new Set<() => void>()
  let held = 0

  function release(): void {
    const [next] = waiting
    if (next) next()
    else held -= 1
  }

  return {
    count,
    async acquire(signal, onWait) {
      if (signal.aborted) return undefined
      if (held < count) {
        held += 1
        return release
      }
      const { promise, resolve } = Promise.withResolvers<(() => void) | undefined>()
      const take = (): void => {
        waiting.delete(take)
        signal.removeEventListener('abort', giveUp)
        resolve(release)
      }
      const giveUp = (): void => {
        waiting.delete(take)
        resolve(undefined)
      }
      waiting.add(take)
      signal.addEventListener('abort', giveUp, { once: true })
      onWait()
      return promise
    },
  }
}
