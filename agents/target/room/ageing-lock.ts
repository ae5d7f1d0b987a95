/**
 * Locks directories against ageing. systemd-tmpfiles deletes old files in /tmp and /var/tmp, but nothing below a directory
 * that a process holds a lock on (systemd.io/TEMPORARY_DIRECTORIES). The agent locks the root of all write caches,
 * including kept ones; a mount process locks its own directories, because it outlives the agent.
 */
import { spawn } from 'node:child_process'
import { closeSync, constants, fstatSync, openSync } from 'node:fs'

export interface AgeingLock {
  /** Locks the directory that exists now. Safe to repeat; never throws: a missing directory is locked by a later call. */
  take(): void
  close(): void
}

/** The lock ends with this process at the latest. */
export function createAgeingLock(directory: string): AgeingLock {
  let held: number | undefined

  function close(): void {
    if (held !== undefined) closeSync(held)
    held = undefined
  }

  return {
    take() {
      const fd = openDirectory(directory)
      if (fd === undefined) return
      if (held !== undefined && isSame(held, fd)) {
        closeSync(fd)
        return
      }
      close()
      held = fd
      lock(fd)
    },
    close,
  }
}

/** Locks a directory for as long as this process lives. */
export function keepFromAgeing(directory: string): void {
  createAgeingLock(directory).take()
}

/** flock(1) locks the open directory that it inherits; the lock belongs to the open file, so it stays in this process. */
function lock(fd: number): void {
  const flock = spawn('flock', ['--shared', '--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] })
  // A system without flock(1) most likely has no systemd-tmpfiles either.
  flock.on('error', () => undefined)
  flock.unref()
}

function openDirectory(directory: string): number | undefined {
  try {
    return openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return undefined
  }
}

function isSame(one: number, other: number): boolean {
  const [a, b] = [fstatSync(one), fstatSync(other)]
  return a.ino === b.ino && a.dev === b.dev
}
