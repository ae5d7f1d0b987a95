/**
 * Makes the kernel write back the dirty pages of a mount to this process. Done by child processes: this process must not
 * wait for its own mount.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
const DEADLINE_MS = 60_000

/**
 * Resolves when everything written before has reached the server. syncfs(2) sends all of it; up to Linux 6.15 it does not
 * wait for the replies, because a page counts as written once it was copied into a request (fs/fuse/file.c,
 * fuse_writepage_locked). The sync of the root is a separate request, which the server receives after those.
 * @throws the child's error
 */
export async function syncKernel(mountPoint: string): Promise<void> {
  await syncFileSystem(mountPoint)
  await run('sync', [mountPoint], { timeout: DEADLINE_MS })
}

/** As syncfs(2), of the file system that the directory is on. @throws the child's error */
export async function syncFileSystem(directory: string): Promise<void> {
  await run('sync', ['-f', directory], { timeout: DEADLINE_MS })
}
