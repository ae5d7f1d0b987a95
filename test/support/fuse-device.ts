/**
 * Lets everybody use /dev/fuse for a while, as distributions do, on a machine where only root may.
 *
 * A shell holds the change: it waits for the end of its standard input, which comes with ours however we end, and then
 * gives the device its mode back. One run of tests at a time has it, by a lock on the device.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'

const DEVICE = '/dev/fuse'
const FOR_EVERYBODY = 0o666
/** How long another run of tests may have it, seconds. */
const TURN_SECONDS = 150

const HOLD = `
exec 9<${DEVICE}
flock --exclusive --timeout ${TURN_SECONDS} 9 || exit 1
mode=$(stat --format=%a ${DEVICE})
chmod ${FOR_EVERYBODY.toString(8)} ${DEVICE}
echo open
cat
chmod "$mode" ${DEVICE}
`

/** @returns what gives the device back its mode, once that is done */
export async function openFuseDevice(): Promise<() => Promise<void>> {
  if (((await stat(DEVICE)).mode & FOR_EVERYBODY) === FOR_EVERYBODY) return async () => undefined
  // Of its own process group, so that Ctrl-C on the tests does not take it along.
  const holder = spawn('sh', ['-c', HOLD], { detached: true, stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(holder, 'exit')
  const [said] = await Promise.race([once(holder.stdout, 'data'), ended])
  if (!Buffer.isBuffer(said)) throw new Error(`${DEVICE} could not be opened to everybody (${String(said)})`)
  return async () => {
    holder.stdin.end()
    await ended
  }
}
