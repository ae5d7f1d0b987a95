/** Takes away what a mount process left mounted when it died, or cannot serve any more. */
import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import { HowdahError } from '../../../messages/errors.ts'
import { isMounted } from '../filesystem/drivers/mount-table.ts'

const run = promisify(execFile)
const DEADLINE_MS = 5000
const MAX_LAYERS = 8

/**
 * Detaches whatever is mounted at this path, though files on it be in use; does nothing when nothing is. Only for a
 * mount whose process is gone or about to go.
 * @throws HowdahError `mount_failed`
 */
export async function clearDeadMount(mountPoint: string): Promise<void> {
  for (let layer = 0; layer < MAX_LAYERS && isMounted(mountPoint); layer++) {
    try {
      if (isRoot()) await run('umount', ['-l', mountPoint], { timeout: DEADLINE_MS })
      else await run('fusermount', ['-u', '-z', mountPoint], { timeout: DEADLINE_MS })
    } catch (cause) {
      if (!isMounted(mountPoint)) return
      throw new HowdahError('mount_failed', `the dead mount ${mountPoint} cannot be taken away`, { cause })
    }
  }
}

/**
 * Ends the mount that this process serves, at once and without an event loop: whoever waits for it gets an error, a
 * thread that sleeps in its device wakes up, and the path is free. Root's way; another user's mount is detached only.
 *
 * umount2(2) with MNT_FORCE aborts the connection of FUSE even where files are in use (Linux,
 * Documentation/filesystems/fuse/fuse.rst). The path is taken as it is (`-c`): to look at it would mean to ask this
 * process.
 */
export function abortMount(mountPoint: string): void {
  if (isRoot()) spawnSync('umount', ['-i', '-c', '-f', '-l', mountPoint], { timeout: DEADLINE_MS })
  else spawnSync('fusermount', ['-u', '-z', mountPoint], { timeout: DEADLINE_MS })
}

function isRoot(): boolean {
  return process.geteuid?.() === 0
}
