/**
 * The changes that users made in this target's sessions: queries an instance, detects what changed (detection.ts) and
 * records it in the write cache. One query of a session at a time. Only reads from the instance.
 *
 * observe.ts queries the counters, detection.ts compares them with the record (record.ts), and report.ts publishes changes.
 */
import type { Changes } from '../../../messages/values.ts'
import { instanceAddress, withAnyDatabase } from '../postgres/connections/instance-client.ts'
import type { PublishedSession } from '../session/published-session.ts'
import { detectChanges, initialRecord, type Mark, type Observation, withExport } from './detection.ts'
import { isQuiet, observe, observeDatabase, observeStart } from './observe.ts'
import { readChangeRecord, writeChangeRecord } from './record.ts'

export interface SessionChanges {
  /** A recovery has ended: what is written from now on is a change. Safe to repeat; recorded changes are preserved. */
  begin(session: PublishedSession): Promise<void>
  /** The changes up to now; none of a paused instance. @throws HowdahError `postgres_failed` */
  of(session: PublishedSession): Promise<Changes>
  /** To be called before the snapshot of a database is taken. Undefined: the instance is in recovery. */
  mark(session: PublishedSession, database: string): Promise<Mark | undefined>
  /** Records that databases were exported as a whole, each up to its mark; in the order of their marks. */
  exported(session: PublishedSession, marks: ReadonlyMap<string, Mark>): Promise<void>
  /** Does work of Howdah's own that writes to the instance. It is not counted as a change, as far as it can be distinguished. */
  excludeFromChanges<T>(session: PublishedSession, work: () => Promise<T>): Promise<T>
}

/** An observation has an entry for each database. */
const MAX_OBSERVED = 64

export function createSessionChanges(): SessionChanges {
  const chains = new Map<string, Promise<unknown>>()

  async function serialized<T>({ session }: PublishedSession, work: () => Promise<T>): Promise<T> {
    const result = (chains.get(session) ?? Promise.resolve()).then(work, work)
    const chain = result.catch(() => undefined)
    chains.set(session, chain)
    try {
      return await result
    } finally {
      if (chains.get(session) === chain) chains.delete(session)
    }
  }

  /** The last observations, of the sessions that were queried last. */
  const observed = new Map<string, Observation>()

  async function observeAgain(session: PublishedSession): Promise<Observation | undefined> {
    const seen = await observe(await instanceAddress(session), observed.get(session.session))
    observed.delete(session.session)
    if (seen) observed.set(session.session, seen)
    const [oldest] = observed.keys()
    if (observed.size > MAX_OBSERVED && oldest !== undefined) observed.delete(oldest)
    return seen
  }

  async function query(session: PublishedSession): Promise<Changes> {
    const record = await readChangeRecord(session)
    const seen = record && (await observeAgain(session))
    if (!record || !seen) return { changed: false, databases: [] }
    const detected = detectChanges(record, seen)
    if (JSON.stringify(detected.record) !== JSON.stringify(record))
      await writeChangeRecord(session, detected.record)
    return detected.changes
  }

  /** Attributes the transactions up to now to Howdah, unless the counters show writes of a client, or may still do so. */
  async function absorb(session: PublishedSession): Promise<void> {
    const record = await readChangeRecord(session)
    const seen = record && (await observeAgain(session))
    if (!record || !seen?.quiet) return
    const detected = detectChanges(record, seen).record
    if (detected.changed.length === 0)
      await writeChangeRecord(session, { ...detected, xid: detected.seenXid })
  }

  return {
    async excludeFromChanges(session, work) {
      const before = await serialized(session, () => query(session))
      try {
        return await work()
      } finally {
        if (!before.changed) await serialized(session, () => absorb(session)).catch(() => undefined)
      }
    },
    begin: (session) =>
      serialized(session, async () => {
        if (await readChangeRecord(session)) return
        const start = await observeStart(await instanceAddress(session))
        if (start) await writeChangeRecord(session, initialRecord(start))
      }),
    of: (session) => serialized(session, () => query(session)),
    mark: async (session, database) => observeDatabase(await instanceAddress(session), database),
    exported: (session, marks) =>
      serialized(session, async () => {
        const last = [...marks.keys()].at(-1)
        if (last === undefined) return
        await query(session)
        let record = await readChangeRecord(session)
        if (!record) return
        const address = await instanceAddress(session)
        const quiet = await withAnyDatabase(address, (client) => isQuiet(client, [last]))
        // Clients of the others may have written since their marks: only the last mark shows that nothing is left.
        for (const [database, mark] of marks)
          record = withExport(record, database, mark, database === last && quiet)
        await writeChangeRecord(session, record)
      }),
  }
}
