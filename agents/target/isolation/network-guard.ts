/** Checks at intervals that the network rules of all sessions exist, and restores those that were removed, as by a firewall reload. */
import type { Logger } from 'pino'
import type { PublishedSession } from '../session/published-session.ts'
import { restoreNetworkRules } from './isolation.ts'
import { listTables } from './nft.ts'

export interface NetworkGuard {
  close(): void
}

export interface NetworkGuardOptions {
  /** The sessions of this target. */
  readonly sessions: () => readonly PublishedSession[]
  readonly everyMs: number
  readonly logger: Logger
}

export function guardNetworkRules({ sessions, everyMs, logger }: NetworkGuardOptions): NetworkGuard {
  let checking = false

  async function check(): Promise<void> {
    const guarded = sessions()
    if (guarded.length === 0) return
    const tables = await listTables()
    for (const session of guarded) {
      if (await restoreNetworkRules(session, tables))
        logger.warn(
          { session: session.session },
          'the network rules of a session had been removed, and were restored',
        )
    }
  }

  const timer = setInterval(() => {
    if (checking) return
    checking = true
    check()
      .catch((err: unknown) => logger.warn({ err }, 'the network rules of sessions could not be checked'))
      .finally(() => {
        checking = false
      })
  }, everyMs)
  timer.unref()
  return { close: () => clearInterval(timer) }
}
