/** Takes away what a mount process left mounted when it died. */
import { execFile } from 'node:child_process'
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
    const root = process.geteuid?.() === 0
    try {
      if (root) await run('umount', ['-l', mountPoint], { timeout: DEADLINE_MS })
      else await run('fusermount', ['-u', '-z', mountPoint], { timeout: DEADLINE_MS })
    } catch (cause) {
      if (!isMounted(mountPoint)) return
      throw new HowdahError('mount_failed', `the dead mount ${mountPoint} cannot be taken away`, { cause })
    }
  }
}
