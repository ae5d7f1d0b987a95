/** A lock per session within this process: one change at a time, in the order of the calls. */

export interface SessionLocks {
  /** Runs `work` after all earlier work of the same session, whether that succeeded or not. */
  exclusive<T>(id: string, work: () => Promise<T>): Promise<T>
  /** Resolves when the work queued so far has ended; never rejects. */
  settled(): Promise<void>
}

export function createSessionLocks(): SessionLocks {
  /** Settles without an error when the last work of the session has ended; removed when nothing follows. */
  const tails = new Map<string, Promise<unknown>>()
  return {
    async exclusive(id, work) {
      const previous = tails.get(id) ?? Promise.resolve()
      const run = previous.then(work)
      const tail = run.catch(() => undefined)
      tails.set(id, tail)
      try {
        return await run
      } finally {
        if (tails.get(id) === tail) tails.delete(id)
      }
    },
    async settled() {
      await Promise.allSettled(tails.values())
    },
  }
}
