/**
 * Has the kernel write to this process what it holds of a mount in its page cache. In child processes: who waits for
 * this process's own mount must not be this process.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
const DEADLINE_MS = 60_000

/**
 * Resolves when everything that was written before has reached the server. syncfs(2) has all of it sent, but does not
 * wait for a FUSE server (Linux 6.18, fs/fs-writeback.c, wait_sb_inodes); the sync of the root that follows is a request
 * which the kernel gives to the server after those.
 * @throws the child's error
 */
export async function syncKernel(mountPoint: string): Promise<void> {
  await run('sync', ['-f', mountPoint], { timeout: DEADLINE_MS })
  await run('sync', [mountPoint], { timeout: DEADLINE_MS })
}
