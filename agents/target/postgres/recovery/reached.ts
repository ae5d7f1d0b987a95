/**
 * How far the recovery of an instance came: the last of production's transactions that it contains, reported with every
 * publish.
 *
 * The server knows it only until it ends (PostgreSQL documentation, "Recovery Information Functions"), so it is stored in a
 * file for later starts, which recover nothing from the archive.
 */
import { readFile } from 'node:fs/promises'
import { Reached } from '../../../../messages/values.ts'
import { type Identity, queryRow } from '../connections/connection.ts'
import { writeFileAtomically } from '../process/atomic-file.ts'
import { type InstanceSpec, instancePaths, majorVersion } from '../specification.ts'

const ASK_TIMEOUT = 30_000
/** A last transaction this much older than the requested time is reported as a warning, seconds. */
const FAR = 15 * 60

interface Row {
  readonly lsn: string | null
  /** Milliseconds since 1970. */
  readonly at: number | null
  readonly asked: number | null
}

/**
 * @param as the login for the query
 * @returns undefined if unknown
 */
export async function queryReached(spec: InstanceSpec, as: Identity): Promise<Reached | undefined> {
  const [wal, position] = majorVersion(spec.version) >= 10 ? ['wal', 'lsn'] : ['xlog', 'location']
  const asked = spec.recoverTo.type === 'time' ? (spec.recoverTo.value ?? null) : null
  const row = await queryRow<Row>(
    spec,
    as,
    `SELECT pg_last_${wal}_replay_${position}()::text AS lsn,
            floor(extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::float8 AS at,
            (extract(epoch FROM $1::timestamptz) * 1000)::float8 AS asked`,
    ASK_TIMEOUT,
    [asked],
  )
  const known = await readReached(spec)
  if (row === undefined || row.lsn === null) return known
  const { lsn, at } = row
  // Crash recovery replays the instance's own WAL, which has no transaction of production.
  if (at === null && known !== undefined) return known
  const reached: Reached = {
    lsn,
    ...(at !== null && { lastCommit: new Date(at).toISOString() }),
    ...(at !== null &&
      row.asked !== null && { secondsBefore: Math.max(0, Math.round((row.asked - at) / 1000)) }),
  }
  await writeFileAtomically(instancePaths(spec).reached, JSON.stringify(reached), 0o644)
  return reached
}

/** Warns the user if the recovery ended long before the requested time. */
export function distanceWarnings(reached: Reached | undefined): string[] {
  const { lastCommit, secondsBefore = 0 } = reached ?? {}
  if (lastCommit === undefined || secondsBefore < FAR) return []
  return [
    `The last transaction that it holds is of ${lastCommit}, ${Math.floor(secondsBefore / 60)} min before the time that was asked for: production was idle, or the archive lacks what came between.`,
  ]
}

async function readReached(spec: InstanceSpec): Promise<Reached | undefined> {
  const text = await readFile(instancePaths(spec).reached, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : Reached.safeParse(JSON.parse(text)).data
}
