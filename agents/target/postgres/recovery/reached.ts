/**
 * How far the recovery of an instance came: what of production's transactions it holds, told with every publish.
 *
 * The server knows until it ends (PostgreSQL documentation, "Recovery Information Functions"), so it is kept in a file
 * for later starts, in which nothing is recovered from the archive.
 */
import { readFile } from 'node:fs/promises'
import { Reached } from '../../../../messages/values.ts'
import { type Identity, queryRow } from '../connections/connection.ts'
import { writeFileAtomically } from '../process/atomic-file.ts'
import { type InstanceSpec, instancePaths, majorVersion } from '../specification.ts'

const ASK_TIMEOUT = 30_000
/** A last transaction that is so much older than the time asked for is worth a warning, seconds. */
const FAR = 15 * 60

interface Row {
  readonly lsn: string | null
  /** Milliseconds since 1970. */
  readonly at: number | null
  readonly asked: number | null
}

/**
 * @param as whom to ask the server as
 * @returns undefined when nobody knows
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

/** For the user, where what was recovered to is far from the time that was asked for. */
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
