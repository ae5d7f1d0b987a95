/**
 * The changes that users made in this target's sessions: queries an instance, detects what changed (detection.ts) and
 * records it in the write cache. One query of a session at a time. Only reads from the instance.
 *
 * observe.ts queries the counters, detection.ts compares them with the record (record.ts), and report.ts publishes changes.
 */
import type { Changes } from '../../../messages/values.ts'
import { instanceAddress, withAnyDatabase } from '../postgres/connections/instance-client.ts'
import type { PublishedSession } from '../session/published-session.ts'
import { detectChanges, initialRecord, type Mark, withExport } from './detection.ts'
import { isQuiet, observe, observeStart } from './observe.ts'
import { readChangeRecord, writeChangeRecord } from './record.ts'

export interface SessionChanges {
  /** A recovery has ended: what is written from now on is a change. Safe to repeat; recorded changes are preserved. */
  begin(session: PublishedSession): Promise<void>
  /** The changes up to now; none of a paused instance. @throws HowdahError `postgres_failed` */
  of(session: PublishedSession): Promise<Changes>
  /** To be called before the snapshot of a database is taken. Undefined: the instance is in recovery. */
  mark(session: PublishedSession, database: string): Promise<Mark | undefined>
  /** Records that a database was exported as a whole, up to a mark. */
  exported(session: PublishedSession, database: string, mark: Mark): Promise<void>
  /** Does work of Howdah's own that writes to the instance. It is not counted as a change, as far as it can be distinguished. */
  excludeFromChanges<T>(session: PublishedSession, work: () => Promise<T>): Promise<T>
}

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

  async function query(session: PublishedSession): Promise<Changes> {
    const record = await readChangeRecord(session)
    const seen = record && (await observe(await instanceAddress(session)))
    if (!record || !seen) return { changed: false, databases: [] }
    const detected = detectChanges(record, seen)
    if (JSON.stringify(detected.record) !== JSON.stringify(record))
      await writeChangeRecord(session, detected.record)
    return detected.changes
  }

  /** Attributes the transactions up to now to Howdah, unless the counters show writes of a client, or may still do so. */
  async function absorb(session: PublishedSession): Promise<void> {
    const record = await readChangeRecord(session)
    const seen = record && (await observe(await instanceAddress(session)))
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
    async mark(session, database) {
      const seen = await observe(await instanceAddress(session))
      const counters = seen?.databases.get(database)
      return seen && counters && { xid: seen.xid, epoch: seen.epoch, counters }
    },
    exported: (session, database, mark) =>
      serialized(session, async () => {
        await query(session)
        const record = await readChangeRecord(session)
        if (!record) return
        const address = await instanceAddress(session)
        const quiet = await withAnyDatabase(address, (client) => isQuiet(client, [database]))
        await writeChangeRecord(session, withExport(record, database, mark, quiet))
      }),
  }
}
