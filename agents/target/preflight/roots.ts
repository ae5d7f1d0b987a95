/** The two roots, of mount points and of write caches, are made by the first preflight and go with the last session. */
import { lstat, rmdir } from 'node:fs/promises'
import { ROOT_MODE } from './safe-directory.ts'

const ROOT_STAYS: ReadonlySet<string> = new Set(['ENOENT', 'ENOTEMPTY', 'EBUSY', 'EACCES', 'EPERM', 'EROFS'])

/**
 * Removes a root that preflight made, when nothing is in it any more. One that somebody else made stays: so does one in
 * a directory that an agent without root may not write to.
 */
export async function removeRoot(directory: string): Promise<void> {
  try {
    const { mode, uid } = await lstat(directory)
    if ((mode & 0o7777) === ROOT_MODE && uid === process.geteuid?.()) await rmdir(directory)
  } catch (error) {
    if (!ROOT_STAYS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}
