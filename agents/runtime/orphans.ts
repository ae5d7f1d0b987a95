/** Owns the orphans: superseded steps that still run despite their abort signal. Cannot end them. */

export interface Orphans {
  /** Resolves when every orphan of the session has ended; undefined where there is none. */
  of(session: string): Promise<void> | undefined
  /** Adds a step to the orphans of its session until it ends. `ended` must not reject. */
  add(session: string, ended: Promise<unknown>): void
}

export function createOrphans(): Orphans {
  const orphans = new Map<string, Promise<void>>()
  return {
    of: (session) => orphans.get(session),
    add(session, ended) {
      // Later steps get this orphan, and those before it that still run, until all of them have ended.
      const orphan = Promise.all([ended, orphans.get(session)]).then(() => {
        if (orphans.get(session) === orphan) orphans.delete(session)
      })
      orphans.set(session, orphan)
    },
  }
}
