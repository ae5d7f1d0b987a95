/** The record of a session's changes, in a file of its write cache. */
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'
import type { PublishedSession } from '../session/published-session.ts'

/** Tuples written in a database since its statistics began, and how many of them ANALYZE wrote. */
const Counters = z.object({ written: z.number(), statistics: z.number() })

const ChangeRecord = z.object({
  /** Transactions before this one changed nothing, or only what was exported. 64 bits as decimal digits. */
  xid: z.string().regex(/^\d+$/),
  /** The next transaction at the last query. */
  seenXid: z.string().regex(/^\d+$/),
  /** When the instance's statistics were reset, as they are by a crash of PostgreSQL. */
  epoch: z.string(),
  /** The counters of each database at its last export, in this epoch. */
  exported: z.record(z.string(), Counters),
  /** Databases that are known to have changed. */
  changed: z.array(z.string()),
})

export type Counters = z.infer<typeof Counters>
export type ChangeRecord = z.infer<typeof ChangeRecord>

/** Undefined: the session was never writable. */
export async function readChangeRecord(session: PublishedSession): Promise<ChangeRecord | undefined> {
  const text = await readFile(path(session), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  return text === undefined ? undefined : ChangeRecord.parse(JSON.parse(text))
}

export async function writeChangeRecord(session: PublishedSession, record: ChangeRecord): Promise<void> {
  await writeFileAtomically(path(session), JSON.stringify(record), 0o600)
}

function path({ cachePath }: PublishedSession): string {
  return `${cachePath}/conf/changes.json`
}
