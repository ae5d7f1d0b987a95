/**
 * The record of a published session: one file in its write cache, from which a restarted agent finds the session's mount,
 * instance and options. The agent keeps no other state of it. Only steps/ write the record; teardown.ts and session-watch.ts
 * read it.
 */
import { readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { z } from 'zod'
import { HowdahError } from '../../../messages/errors.ts'
import { SessionId } from '../../../messages/primitives.ts'
import { DataPlaneAddress, type StepCommand, TargetOptions } from '../../../messages/steps.ts'
import { RecoverTo } from '../../../messages/values.ts'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'
import { findUser } from '../preflight/user.ts'

const PublishedSession = z.object({
  session: SessionId,
  mountPoint: z.string(),
  cachePath: z.string(),
  binaries: z.string(),
  version: z.string(),
  user: z.object({ name: z.string(), uid: z.int(), gid: z.int() }),
  port: z.int(),
  recoverTo: RecoverTo,
  ...TargetOptions.pick({
    afterRecovery: true,
    listen: true,
    settings: true,
    hba: true,
    allowOutbound: true,
    superuser: true,
  }).shape,
  dataPlane: DataPlaneAddress,
  extensions: z.array(z.string()).optional(),
  neededWal: z.object({ first: z.string().optional(), last: z.string().optional() }),
  /** WAL files in the backup itself: the server is started with them, without archive recovery. */
  ownWal: z.array(z.string()).optional(),
  /** Identifies the journal of its write cache. */
  journal: z.string().optional(),
  /** Its first recovery has finished: the write cache may hold changes of users. */
  recovered: z.boolean().optional(),
  /** It is no longer published, and its write cache is kept for a retry. */
  kept: z.boolean().optional(),
})
export type PublishedSession = z.infer<typeof PublishedSession>

/** The session of a step command, from the results of the steps before. @throws HowdahError `user_missing` | `internal` when the steps before gave no result */
export async function publishedSession({ session, input }: StepCommand): Promise<PublishedSession> {
  const { resolved, checked } = input
  if (!resolved || !checked) {
    throw new HowdahError('internal', `session ${session}: the results of resolve and preflight are missing`)
  }
  const user = await findUser(checked.user)
  if (!user) {
    throw new HowdahError('user_missing', `the user "${checked.user}" does not exist on the target any more`)
  }
  const { mountPoint, cachePath, binaries, port } = checked
  const { afterRecovery, listen, settings, hba, allowOutbound, superuser } = input.options
  return {
    session,
    mountPoint,
    cachePath,
    binaries,
    version: resolved.backup.postgresVersion,
    user,
    port,
    recoverTo: resolved.recoverTo ?? input.recoverTo,
    afterRecovery,
    listen,
    settings,
    hba,
    allowOutbound,
    superuser,
    dataPlane: resolved.dataPlane,
    extensions: resolved.catalog?.extensions.map(({ name }) => name) ?? [],
    neededWal: { first: resolved.backup.startWal, last: resolved.backup.stopWal },
    ownWal: resolved.ownWal,
  }
}

/** Writes the record. What an earlier record says of the write cache is preserved. */
export async function saveSession(session: PublishedSession): Promise<void> {
  const { journal, recovered } = readSession(session.cachePath) ?? {}
  const record: PublishedSession = { journal, recovered, ...session }
  await writeFileAtomically(recordPath(session.cachePath), JSON.stringify(record), 0o600)
}

/**
 * The session of a write cache; undefined: there is no record, or it is unreadable. Synchronous, so that it works while the
 * libuv thread pool is blocked by a mount that hangs.
 */
export function readSession(cachePath: string): PublishedSession | undefined {
  try {
    return PublishedSession.parse(JSON.parse(readFileSync(recordPath(cachePath), 'utf8')))
  } catch {
    return undefined
  }
}

/**
 * Ids of the sessions of which something is below this root, with a record or without. `ours`: names of directories there
 * that are no sessions.
 */
export async function presentSessions(cacheRoot: string, ours: (name: string) => boolean): Promise<string[]> {
  const names = await readdir(cacheRoot, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return names
    .filter((entry) => entry.isDirectory() && SessionId.safeParse(entry.name).success && !ours(entry.name))
    .map(({ name }) => name)
}

/** Every session that has a write cache below this root. */
export async function readSessions(cacheRoot: string): Promise<PublishedSession[]> {
  const names = await readdir(cacheRoot).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return names.map((name) => readSession(`${cacheRoot}/${name}`)).filter((session) => session !== undefined)
}

function recordPath(cachePath: string): string {
  return `${cachePath}/conf/session.json`
}
