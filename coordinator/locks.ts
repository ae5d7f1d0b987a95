/** Locks by name within this process: the work under one name runs one after the other, in the order of the calls. */

export interface Locks {
  /** Runs `work` after all earlier work under the same name, whether that succeeded or not. */
  exclusive<T>(name: string, work: () => Promise<T>): Promise<T>
  /** Resolves when the work queued so far has ended; never rejects. */
  settled(): Promise<void>
}

export function createLocks(): Locks {
  /** Settles without an error when the last work under the name has ended; removed when nothing follows. */
  const tails = new Map<string, Promise<unknown>>()
  return {
    async exclusive(name, work) {
      const previous = tails.get(name) ?? Promise.resolve()
      const run = previous.then(work)
      const tail = run.catch(() => undefined)
      tails.set(name, tail)
      try {
        return await run
      } finally {
        if (tails.get(name) === tail) tails.delete(name)
      }
    },
    async settled() {
      await Promise.allSettled(tails.values())
    },
  }
}
