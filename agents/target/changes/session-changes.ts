/**
 * The changes of this target's sessions: looks, judges, and keeps what it found out. One look at a session at a time.
 */
import type { Changes } from '../../../messages/values.ts'
import { instanceAddress, withAnyDatabase } from '../postgres/connections/instance-client.ts'
import type { PublishedSession } from '../session/published-session.ts'
import { detectChanges, initialRecord, type Mark, withExport } from './detection.ts'
import { isQuiet, observe, observeStart } from './observe.ts'
import { readChangeRecord, writeChangeRecord } from './record.ts'

export interface SessionChanges {
  /** A recovery has ended: what is written from now on is a change. Safe to repeat; what was changed stays so. */
  begin(session: PublishedSession): Promise<void>
  /** What was changed up to now. A paused instance has no changes. @throws HowdahError `postgres_failed` */
  of(session: PublishedSession): Promise<Changes>
  /** To be called before the snapshot of a database is taken. Undefined: nothing can have changed. */
  mark(session: PublishedSession, database: string): Promise<Mark | undefined>
  /** A database was exported as a whole, up to a mark. */
  exported(session: PublishedSession, database: string, mark: Mark): Promise<void>
  /** Does what writes to the instance without being a change of it, where that can be told from one. */
  excludeFromChanges<T>(session: PublishedSession, work: () => Promise<T>): Promise<T>
}

export function createSessionChanges(): SessionChanges {
  const chains = new Map<string, Promise<unknown>>()

  async function alone<T>({ session }: PublishedSession, work: () => Promise<T>): Promise<T> {
    const result = (chains.get(session) ?? Promise.resolve()).then(work, work)
    const chain = result.catch(() => undefined)
    chains.set(session, chain)
    try {
      return await result
    } finally {
      if (chains.get(session) === chain) chains.delete(session)
    }
  }

  async function look(session: PublishedSession): Promise<Changes> {
    const record = await readChangeRecord(session)
    const seen = record && (await observe(await instanceAddress(session)))
    if (!record || !seen) return { changed: false, databases: [] }
    const judgement = detectChanges(record, seen)
    if (JSON.stringify(judgement.record) !== JSON.stringify(record))
      await writeChangeRecord(session, judgement.record)
    return judgement.changes
  }

  /** What was written up to now was not somebody's, unless his counters say so or can still come. */
  async function absorb(session: PublishedSession): Promise<void> {
    const record = await readChangeRecord(session)
    const seen = record && (await observe(await instanceAddress(session)))
    if (!record || !seen?.quiet) return
    const judged = detectChanges(record, seen).record
    if (judged.changed.length === 0) await writeChangeRecord(session, { ...judged, xid: judged.seenXid })
  }

  return {
    async excludeFromChanges(session, work) {
      const before = await alone(session, () => look(session))
      try {
        return await work()
      } finally {
        if (!before.changed) await alone(session, () => absorb(session)).catch(() => undefined)
      }
    },
    begin: (session) =>
      alone(session, async () => {
        if (await readChangeRecord(session)) return
        const start = await observeStart(await instanceAddress(session))
        if (start) await writeChangeRecord(session, initialRecord(start))
      }),
    of: (session) => alone(session, () => look(session)),
    async mark(session, database) {
      const seen = await observe(await instanceAddress(session))
      const counters = seen?.databases.get(database)
      return seen && counters && { xid: seen.xid, epoch: seen.epoch, counters }
    },
    exported: (session, database, mark) =>
      alone(session, async () => {
        await look(session)
        const record = await readChangeRecord(session)
        if (!record) return
        const address = await instanceAddress(session)
        const quiet = await withAnyDatabase(address, (client) => isQuiet(client, [database]))
        await writeChangeRecord(session, withExport(record, database, mark, quiet))
      }),
  }
}
