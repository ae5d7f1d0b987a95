/** Regular unmounting, which the kernel refuses while the mount is in use. */
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { HowdahError } from '../../../../messages/errors.ts'
import { isMounted } from './mount-table.ts'

const run = promisify(execFile)
/** Dirty pages are written to the server first. */
const DEADLINE_MS = 60_000
/** Retries while EBUSY may come from short accesses such as stat(2), this process's own included. */
const BUSY_RETRY_MS = 500
const RETRY_INTERVAL_MS = 25

/**
 * Resolves when the command has ended and nothing is mounted there any longer.
 * @param command the program and its arguments before the mount point
 * @throws HowdahError `mount_failed` when files on it stay in use
 */
export async function unmount(mountPoint: string, command: readonly [string, ...string[]]): Promise<void> {
  const [program, ...args] = command
  for (const until = Date.now() + BUSY_RETRY_MS; isMounted(mountPoint); await sleep(RETRY_INTERVAL_MS)) {
    try {
      await run(program, [...args, mountPoint], { timeout: DEADLINE_MS })
      return
    } catch (cause) {
      if (!isMounted(mountPoint)) return
      if (Date.now() < until) continue
      const message = `${mountPoint} cannot be unmounted: files on it are in use`
      throw new HowdahError('mount_failed', message, { cause })
    }
  }
}
