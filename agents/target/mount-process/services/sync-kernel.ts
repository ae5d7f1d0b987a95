/**
 * Has the kernel write to this process what it holds of a mount in its page cache. In child processes: who waits for
 * this process's own mount must not be this process.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
const DEADLINE_MS = 60_000

/**
 * Resolves when everything that was written before has reached the server. syncfs(2) has all of it sent; up to Linux
 * 6.15 it does not wait for the answers, because a page counts as written when it was copied into a request (fs/fuse/
 * file.c, fuse_writepage_locked). The sync of the root is a request of its own, which the server gets after those.
 * @throws the child's error
 */
export async function syncKernel(mountPoint: string): Promise<void> {
  await run('sync', ['-f', mountPoint], { timeout: DEADLINE_MS })
  await run('sync', [mountPoint], { timeout: DEADLINE_MS })
}
