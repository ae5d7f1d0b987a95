/**
 * Removes mounts whose process died or no longer serves them. Nothing here waits for a mount: operations that might are
 * done by child processes, which are abandoned when they hang.
 */
import { spawn, spawnSync } from 'node:child_process'
import { HowdahError } from '../../../../messages/errors.ts'
import { fusermountCommand } from '../../filesystem/drivers/fusermount.ts'
import { isMounted } from '../../filesystem/drivers/mount-table.ts'

const DEADLINE_MS = 5000
const MAX_LAYERS = 8

/**
 * Forcibly unmounts whatever is mounted at this path, even with files in use: pending requests fail, and the path is
 * free. Does nothing when nothing is mounted. Only for a mount whose process has ended or is about to.
 * @throws HowdahError `mount_failed`
 */
export async function clearDeadMount(mountPoint: string): Promise<void> {
  for (let layer = 0; layer < MAX_LAYERS && isMounted(mountPoint); layer++) {
    const [program, ...args] = forcedUnmount(mountPoint)
    const failure = await runDetached(program, args)
    if (failure === undefined || !isMounted(mountPoint)) continue
    throw new HowdahError('mount_failed', `the dead mount ${mountPoint} cannot be removed: ${failure}`)
  }
}

/**
 * Ends the mount that this process serves, synchronously: pending requests fail, a thread that sleeps in its device wakes
 * up, and the path is free. That needs root; another user's mount is only detached.
 */
export function abortMount(mountPoint: string): void {
  const [program, ...args] = forcedUnmount(mountPoint)
  spawnSync(program, args, { timeout: DEADLINE_MS })
}

/**
 * umount2(2) with MNT_FORCE aborts the connection of FUSE even where files are in use (Linux,
 * Documentation/filesystems/fuse/fuse.rst). The path is not resolved (`-c`), which would send requests to
 * the server. Without root the mount is detached, and its connection ends with its process.
 */
function forcedUnmount(mountPoint: string): [string, ...string[]] {
  if (process.geteuid?.() === 0) return ['umount', '-i', '-c', '-f', '-l', mountPoint]
  return [fusermountCommand(), '-u', '-z', mountPoint]
}

/** Runs a program that may hang, for example on a dead mount. @returns why it failed, if it did */
async function runDetached(program: string, args: readonly string[]): Promise<string | undefined> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  let timer: NodeJS.Timeout | undefined
  const failure = await new Promise<string | undefined>((resolve) => {
    timer = setTimeout(() => resolve(`${program} did not end within ${DEADLINE_MS} ms`), DEADLINE_MS)
    child.once('error', ({ message }) => resolve(message))
    child.once('close', (code) => resolve(code === 0 ? undefined : stderr.trim() || `${program} failed`))
  })
  clearTimeout(timer)
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    child.stderr.destroy()
    child.unref()
  }
  return failure
}
