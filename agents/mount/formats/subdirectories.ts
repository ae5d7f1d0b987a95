/** Lists the directories in which backups are looked for. */
import { readdir } from 'node:fs/promises'
import { HowdahError } from '../../../messages/errors.ts'
import { isSystemError } from '../decode/stored-file.ts'

/**
 * Names in order, without hidden ones. Includes links: whether one may be followed is checked when it is followed.
 * @param finding what it means that they cannot be listed, given the reason
 * @throws HowdahError `repository_unavailable`
 */
export async function subdirectories(path: string, finding: (reason: string) => string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    return entries
      .filter((entry) => (entry.isDirectory() || entry.isSymbolicLink()) && !entry.name.startsWith('.'))
      .map(({ name }) => name)
      .sort()
  } catch (error) {
    const reason = String(isSystemError(error) ? error.code : error)
    const remedy = 'check the path, and that the mount agent may read it'
    throw new HowdahError('repository_unavailable', `${finding(reason)}; ${remedy}`, { cause: error })
  }
}
