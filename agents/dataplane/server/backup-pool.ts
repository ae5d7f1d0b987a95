/**
 * Owns the backups that a data plane server has open: one `BackupSource` per backup, shared by all connections and kept
 * open for a while after the last of them, so that a reconnect finds it open.
 */
import type { Logger } from 'pino'
import type { BackupSource } from '../backup-source.ts'
import type { Ticket } from '../protocol/ticket.ts'

export interface BackupLease {
  readonly source: BackupSource
  /** Ends the lease; a second call does nothing. */
  release(): void
}

export interface BackupPool {
  /** Opens the ticket's backup or shares the open one. Rejects as `openBackup` does; the next call retries. */
  acquire(ticket: Ticket): Promise<BackupLease>
  /** Closes all of them. */
  close(): Promise<void>
}

export interface BackupPoolOptions {
  readonly openBackup: (ticket: Ticket) => Promise<BackupSource>
  /** How long an unused backup stays open. */
  readonly unusedMs: number
  /** Most unused backups that stay open; the one unused for longest goes first. */
  readonly maxUnused: number
  readonly logger: Logger
}

interface Entry {
  readonly opening: Promise<BackupSource>
  opened: boolean
  users: number
  closeTimer: NodeJS.Timeout | undefined
}

export function createBackupPool(options: BackupPoolOptions): BackupPool {
  const { openBackup, unusedMs, maxUnused, logger } = options
  const entries = new Map<string, Entry>()
  /** Keys of unused entries, the one unused for longest first. */
  const unused = new Set<string>()

  async function drop(key: string, entry: Entry): Promise<void> {
    clearTimeout(entry.closeTimer)
    unused.delete(key)
    if (entries.get(key) === entry) entries.delete(key)
    try {
      await (await entry.opening).close()
    } catch (error) {
      logger.warn({ err: error, backup: key }, 'closing a backup failed')
    }
  }

  function release(key: string, entry: Entry): void {
    entry.users -= 1
    if (entry.users > 0 || entries.get(key) !== entry) return
    unused.add(key)
    entry.closeTimer = setTimeout(() => void drop(key, entry), unusedMs).unref()
    const [oldest] = unused
    const victim = oldest === undefined ? undefined : entries.get(oldest)
    if (unused.size > maxUnused && oldest !== undefined && victim) void drop(oldest, victim)
  }

  return {
    async acquire(ticket) {
      const key = JSON.stringify([ticket.repository, ticket.instance, ticket.backup])
      let entry = entries.get(key)
      if (entry === undefined) {
        entry = {
          opening: Promise.resolve(ticket).then(openBackup),
          opened: false,
          users: 0,
          closeTimer: undefined,
        }
        entries.set(key, entry)
      }
      const mine = entry
      mine.users += 1
      clearTimeout(mine.closeTimer)
      unused.delete(key)
      try {
        const source = await mine.opening
        mine.opened = true
        let released = false
        return {
          source,
          release() {
            if (!released) release(key, mine)
            released = true
          },
        }
      } catch (error) {
        if (entries.get(key) === mine) entries.delete(key)
        throw error
      }
    },

    async close() {
      const dropped = [...entries].map(([key, entry]) => ({ opened: entry.opened, done: drop(key, entry) }))
      // A backup that is still being opened is closed once it is open; that need not be waited for.
      await Promise.all(dropped.filter(({ opened }) => opened).map(({ done }) => done))
    },
  }
}
