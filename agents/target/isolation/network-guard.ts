/** Looks whether the network walls of sessions stand, and puts up again what somebody removed, for example by reloading a firewall. */
import type { Logger } from 'pino'
import type { PublishedSession } from '../session/published-session.ts'
import { listTables, restoreNetworkWall } from './walls.ts'

export interface NetworkGuard {
  close(): void
}

export interface NetworkGuardOptions {
  /** Sessions that run here. */
  readonly sessions: () => readonly PublishedSession[]
  readonly everyMs: number
  readonly logger: Logger
}

export function guardNetworkWalls({ sessions, everyMs, logger }: NetworkGuardOptions): NetworkGuard {
  let looking = false

  async function look(): Promise<void> {
    const guarded = sessions()
    if (guarded.length === 0) return
    const tables = await listTables()
    for (const session of guarded) {
      if (await restoreNetworkWall(session, tables))
        logger.warn({ session: session.session }, 'the network wall of a session was gone, and stands again')
    }
  }

  const timer = setInterval(() => {
    if (looking) return
    looking = true
    look()
      .catch((err: unknown) => logger.warn({ err }, 'network walls could not be looked at'))
      .finally(() => {
        looking = false
      })
  }, everyMs)
  timer.unref()
  return { close: () => clearInterval(timer) }
}
