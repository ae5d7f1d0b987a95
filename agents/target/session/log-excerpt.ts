/** The last lines of a session's logs, for the agent's own log: the originals are removed with the session. */
import { open } from 'node:fs/promises'
import { cachePaths } from '../mount-process/mount-spec.ts'
import { instancePaths } from '../postgres/specification.ts'
import type { PublishedSession } from './published-session.ts'

export interface LogExcerpt {
  /** From the mount process's log, warnings and errors only. */
  readonly mount: readonly string[]
  readonly postgres: readonly string[]
}

const LINES = 20
const TAIL_BYTES = 64 * 1024
/** A line of pino below the level "warn". Node's own output, as of a crash, is no such line. */
const BELOW_WARNING = /^\{"level":[1-3]0,/

/** Never rejects: a log that cannot be read counts as empty. */
export async function logExcerpt(session: PublishedSession): Promise<LogExcerpt> {
  const [mount, postgres] = await Promise.all([
    tail(cachePaths(session.cachePath).log),
    tail(instancePaths(session).log),
  ])
  return {
    mount: mount.filter((line) => !BELOW_WARNING.test(line)).slice(-LINES),
    postgres: postgres.slice(-LINES),
  }
}

/** The last whole lines of a file. */
async function tail(path: string): Promise<string[]> {
  try {
    const file = await open(path, 'r')
    try {
      const start = Math.max(0, (await file.stat()).size - TAIL_BYTES)
      const { buffer, bytesRead } = await file.read(Buffer.alloc(TAIL_BYTES), 0, TAIL_BYTES, start)
      const lines = buffer.toString('utf8', 0, bytesRead).split('\n')
      return (start === 0 ? lines : lines.slice(1)).filter((line) => line !== '')
    } finally {
      await file.close()
    }
  } catch {
    return []
  }
}
