/**
 * Owns opening /dev/fuse to all users for a while, as distributions do, on a machine where only root may use it.
 *
 * A shell holds the change: it waits for the end of its standard input, which comes however this process ends, and then
 * restores the mode of the device. A lock on the device serialises test runs.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'

const DEVICE = '/dev/fuse'
const FOR_ALL_USERS = 0o666
/** How long another test run may hold the lock, seconds. */
const LOCK_SECONDS = 150

const HOLD = `
exec 9<${DEVICE}
flock --exclusive --timeout ${LOCK_SECONDS} 9 || exit 1
mode=$(stat --format=%a ${DEVICE})
chmod ${FOR_ALL_USERS.toString(8)} ${DEVICE}
echo open
cat
chmod "$mode" ${DEVICE}
`

/** Returns what restores the mode of the device. */
export async function openFuseDevice(): Promise<() => Promise<void>> {
  if (((await stat(DEVICE)).mode & FOR_ALL_USERS) === FOR_ALL_USERS) return async () => undefined
  // In a process group of its own, so that Ctrl-C on the tests does not end it.
  const holder = spawn('sh', ['-c', HOLD], { detached: true, stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(holder, 'exit')
  const [output] = await Promise.race([once(holder.stdout, 'data'), ended])
  if (!Buffer.isBuffer(output))
    throw new Error(`${DEVICE} could not be opened to all users (${String(output)})`)
  return async () => {
    holder.stdin.end()
    await ended
  }
}
