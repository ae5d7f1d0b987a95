/** Makes sure that the instance's user can read files of the mount, before PostgreSQL is started on it. */
import { HowdahError } from '../../../messages/errors.ts'
import { shellAs } from '../postgres/process/user-process.ts'
import type { PublishedSession } from './published-session.ts'

const DEADLINE_MS = 30_000

/**
 * Opens and closes a file of the mount as the instance's user. By that the kernel also learns that the mount implements no
 * FLUSH, and sends none from then on: no child of this process waits for one when the mount hangs.
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
