/**
 * The backups that a data plane server has open: one `BackupSource` per backup, shared by all connections and kept
 * for a while after the last one, so that a reconnect finds it open.
 */
import type { Logger } from 'pino'
import type { BackupSource } from '../backup-source.ts'
import type { Ticket } from '../protocol/ticket.ts'

export interface BackupLease {
  readonly source: BackupSource
  /** Gives it back; a second call does nothing. */
  release(): void
}

export interface BackupPool {
  /** Opens the ticket's backup or shares the open one. Rejects as `openBackup` does; the next call tries again. */
  acquire(ticket: Ticket): Promise<BackupLease>
  /** Closes all of them. */
  close(): Promise<void>
}

export interface BackupPoolOptions {
  readonly openBackup: (ticket: Ticket) => Promise<BackupSource>
  /** How long an unused backup stays open. */
  readonly lingerMs: number
  /** Most unused backups that stay open; the one unused for longest goes first. */
  readonly maxLingering: number
  readonly logger: Logger
}

interface Entry {
  readonly opening: Promise<BackupSource>
  opened: boolean
  users: number
  linger: NodeJS.Timeout | undefined
}

export function createBackupPool(options: BackupPoolOptions): BackupPool {
  const { openBackup, lingerMs, maxLingering, logger } = options
  const entries = new Map<string, Entry>()
  /** Keys of unused entries, longest unused first. */
  const lingering = new Set<string>()

  async function drop(key: string, entry: Entry): Promise<void> {
    clearTimeout(entry.linger)
    lingering.delete(key)
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
    lingering.add(key)
    entry.linger = setTimeout(() => void drop(key, entry), lingerMs).unref()
    const [oldest] = lingering
    const victim = oldest === undefined ? undefined : entries.get(oldest)
    if (lingering.size > maxLingering && oldest !== undefined && victim) void drop(oldest, victim)
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
          linger: undefined,
        }
        entries.set(key, entry)
      }
      const mine = entry
      mine.users += 1
      clearTimeout(mine.linger)
      lingering.delete(key)
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
      // One that is still being opened closes once it is open; nobody needs to wait for that.
      await Promise.all(dropped.filter(({ opened }) => opened).map(({ done }) => done))
    },
  }
}
