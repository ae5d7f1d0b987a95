/**
 * A session as its target keeps it: one file in the write cache, from which everything of the session is found again
 * after a restart of the agent. The agent itself remembers nothing.
 */
import { readdir, readFile } from 'node:fs/promises'
import { z } from 'zod'
import { DataPlaneAddress, RecoverTo, SessionId, type StepCommand } from '../../messages/definitions.ts'
import { HowdahError } from '../../messages/errors.ts'
import { writeOwnFile } from './postgres/own-file.ts'
import { findUser } from './preflight/user.ts'

const PublishedSession = z.object({
  session: SessionId,
  mountPoint: z.string(),
  cachePath: z.string(),
  binaries: z.string(),
  version: z.string(),
  user: z.object({ name: z.string(), uid: z.int(), gid: z.int() }),
  port: z.int(),
  recoverTo: RecoverTo,
  dataPlane: DataPlaneAddress,
  neededWal: z.object({ first: z.string().optional(), last: z.string().optional() }),
})
export type PublishedSession = z.infer<typeof PublishedSession>

/** The session that a step is about. @throws HowdahError `user_missing` | `internal` when the steps before gave no result */
export async function publishedSession({ session, input }: StepCommand): Promise<PublishedSession> {
  const { resolved, checked, recoverTo } = input
  if (!resolved || !checked) {
    throw new HowdahError('internal', `session ${session}: the results of resolve and preflight are missing`)
  }
  const user = await findUser(checked.user)
  if (!user) {
    throw new HowdahError('user_missing', `the user "${checked.user}" does not exist on the target any more`)
  }
  const { mountPoint, cachePath, binaries, port } = checked
  return {
    session,
    mountPoint,
    cachePath,
    binaries,
    version: resolved.backup.postgresVersion,
    user,
    port,
    recoverTo,
    dataPlane: resolved.dataPlane,
    neededWal: { first: resolved.backup.startWal, last: resolved.backup.stopWal },
  }
}

export async function keepSession(session: PublishedSession): Promise<void> {
  await writeOwnFile(recordPath(session.cachePath), JSON.stringify(session), 0o600)
}

/** The session whose write cache this is; undefined: none was begun there. */
export async function readSession(cachePath: string): Promise<PublishedSession | undefined> {
  const text = await readFile(recordPath(cachePath), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
  if (text === undefined) return undefined
  const parsed = PublishedSession.safeParse(JSON.parse(text))
  if (parsed.success) return parsed.data
  throw new HowdahError(
    'internal',
    `${recordPath(cachePath)} is not a session: ${z.prettifyError(parsed.error)}`,
  )
}

/** Every session that has a write cache below this root. */
export async function readSessions(cacheRoot: string): Promise<PublishedSession[]> {
  const names = await readdir(cacheRoot).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const sessions = await Promise.all(names.map((name) => readSession(`${cacheRoot}/${name}`)))
  return sessions.filter((session) => session !== undefined)
}

function recordPath(cachePath: string): string {
  return `${cachePath}/conf/session.json`
}
