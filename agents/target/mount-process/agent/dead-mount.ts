/**
 * Takes away what a mount process left mounted when it died, or cannot serve any more. Nothing here waits for a mount:
 * what may have to is done by children, which are left alone when they do not come back.
 */
import { spawn, spawnSync } from 'node:child_process'
import { HowdahError } from '../../../../messages/errors.ts'
import { isMounted } from '../../filesystem/drivers/mount-table.ts'

const DEADLINE_MS = 5000
const MAX_LAYERS = 8

/**
 * Ends whatever is mounted at this path, though files on it be in use: who waits for it gets an error, and the path is
 * free. Does nothing when nothing is mounted. Only for a mount whose process is gone or about to go.
 * @throws HowdahError `mount_failed`
 */
export async function clearDeadMount(mountPoint: string): Promise<void> {
  for (let layer = 0; layer < MAX_LAYERS && isMounted(mountPoint); layer++) {
    const [program, ...args] = forcedUnmount(mountPoint)
    const failure = await runDetached(program, args)
    if (failure === undefined || !isMounted(mountPoint)) continue
    throw new HowdahError('mount_failed', `the dead mount ${mountPoint} cannot be taken away: ${failure}`)
  }
}

/**
 * Ends the mount that this process serves, at once and without an event loop: whoever waits for it gets an error, a
 * thread that sleeps in its device wakes up, and the path is free. Root's way; another user's mount is detached only.
 */
export function abortMount(mountPoint: string): void {
  const [program, ...args] = forcedUnmount(mountPoint)
  spawnSync(program, args, { timeout: DEADLINE_MS })
}

/**
 * umount2(2) with MNT_FORCE aborts the connection of FUSE even where files are in use (Linux,
 * Documentation/filesystems/fuse/fuse.rst). The path is taken as it is (`-c`): to look at it would mean to ask its
 * server. Without root the mount is detached, and its connection ends with its process.
 */
function forcedUnmount(mountPoint: string): [string, ...string[]] {
  if (process.geteuid?.() === 0) return ['umount', '-i', '-c', '-f', '-l', mountPoint]
  return ['fusermount', '-u', '-z', mountPoint]
}

/** Runs a program that may never end, as one that waits for a dead mount. @returns why it failed, if it did */
async function runDetached(program: string, args: readonly string[]): Promise<string | undefined> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  let timer: NodeJS.Timeout | undefined
  const failure = await new Promise<string | undefined>((resolve) => {
    timer = setTimeout(() => resolve(`${program} did not end within ${DEADLINE_MS} ms`), DEADLINE_MS)
    child.once('error', ({ message }) => resolve(message))
    child.once('close', (code) => resolve(code === 0 ? undefined : said.trim() || `${program} failed`))
  })
  clearTimeout(timer)
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    child.stderr.destroy()
    child.unref()
  }
  return failure
}
