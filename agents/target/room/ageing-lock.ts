/**
 * Locks directories against ageing. systemd-tmpfiles deletes what is old in /tmp and /var/tmp, but nothing below a
 * directory that somebody holds a lock on (systemd.io/TEMPORARY_DIRECTORIES). The agent locks the root of all write
 * caches, kept ones included; a mount process locks its own directories, because it outlives the agent.
 */
import { spawn } from 'node:child_process'
import { closeSync, constants, fstatSync, openSync } from 'node:fs'

export interface AgeingLock {
  /** Locks the directory that is there now. Safe to repeat; never throws: one that is missing is locked once it is made. */
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

/** flock(1) locks the open directory that it inherits, and the lock stays with it in this process. */
function lock(fd: number): void {
  const flock = spawn('flock', ['--shared', '--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] })
  // Without flock(1) there is most likely no systemd-tmpfiles either.
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
