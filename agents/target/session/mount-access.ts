/** The instance's user can enter the mount, before PostgreSQL is started on it. */
import { HowdahError } from '../../../messages/errors.ts'
import { shellAs } from '../postgres/process/user-process.ts'
import type { PublishedSession } from './published-session.ts'

const DEADLINE_MS = 30_000

/**
 * Opens and closes a file of the mount as the instance's user. After that the kernel knows that closing one is nothing
 * that its server has to hear of: no child of this process waits for that, should the mount hang.
 * @throws HowdahError `user_unusable` | `backup_damaged` | `mount_failed`
 */
export async function requireMountAccess(
  { mountPoint, user }: PublishedSession,
  signal: AbortSignal,
): Promise<void> {
  const file = `${mountPoint}/data/PG_VERSION`
  try {
    await shellAs(user, ': < "$1"', [file], { timeoutMs: DEADLINE_MS, signal })
  } catch (error) {
    signal.throwIfAborted()
    const { message } = error as Error
    throw new HowdahError(codeOf(message), `the user "${user.name}" cannot read ${file}: ${message}`, {
      cause: error,
    })
  }
}

function codeOf(message: string) {
  if (message.includes('Permission denied')) return 'user_unusable'
  if (message.includes('No such file')) return 'backup_damaged'
  return 'mount_failed'
}
