/** Removes the roots of mount points and write caches, which the first preflight creates, with the last session. */
import { lstat, rmdir } from 'node:fs/promises'
import { ROOT_MODE } from './safe-directory.ts'

const ROOT_STAYS: ReadonlySet<string> = new Set(['ENOENT', 'ENOTEMPTY', 'EBUSY', 'EACCES', 'EPERM', 'EROFS'])

/**
 * Removes a root that a preflight created, if it is empty. One that the operator created stays, as does one in a directory
 * that an agent without root may not write to.
 */
export async function removeRoot(directory: string): Promise<void> {
  try {
    const { mode, uid } = await lstat(directory)
    if ((mode & 0o7777) === ROOT_MODE && uid === process.geteuid?.()) await rmdir(directory)
  } catch (error) {
    if (!ROOT_STAYS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}
