/**
 * Backups that the step `resolve` has opened, held for the mount that follows: one of a million files is not opened twice
 * within seconds. What nobody takes is closed.
 */
import type { OpenBackup } from './repository.ts'

export interface BackupName {
  readonly repository: string
  readonly instance: string
  readonly backup: string
}

export interface HeldBackups {
  /** Closes one that was held before. */
  hold(name: BackupName, backup: OpenBackup): void
  /** The backup, which its taker closes; undefined: none is held. */
  take(name: BackupName): OpenBackup | undefined
  close(): void
}

/** @param heldMs how long a backup waits to be taken */
export function createHeldBackups(heldMs = 60_000): HeldBackups {
  const held = new Map<string, { readonly backup: OpenBackup; readonly timer: NodeJS.Timeout }>()
  const keyOf = ({ repository, instance, backup }: BackupName) =>
    JSON.stringify([repository, instance, backup])

  function take(key: string): OpenBackup | undefined {
    const found = held.get(key)
    held.delete(key)
    clearTimeout(found?.timer)
    return found?.backup
  }

  function drop(key: string): void {
    // It has no resources but memory.
    take(key)
      ?.close()
      .catch(() => undefined)
  }

  return {
    hold(name, backup) {
      const key = keyOf(name)
      drop(key)
      held.set(key, { backup, timer: setTimeout(() => drop(key), heldMs).unref() })
    },
    take: (name) => take(keyOf(name)),
    close() {
      for (const key of [...held.keys()]) drop(key)
    },
  }
}
