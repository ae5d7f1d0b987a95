/**
 * A backup that may expire or be deleted while sessions use it: a read that fails for that reason fails with
 * `backup_gone`, not as damage. Also reports that to each affected session, once.
 */
import type { Logger } from 'pino'
import { errorBody, HowdahError } from '../../messages/errors.ts'
import type { OpenBackup } from './repository.ts'

interface BackupName {
  readonly repository: string
  readonly instance: string
  readonly backup: string
}

/** @param isListed whether the repository still lists the backup; called after a read has failed */
export function expiringBackup(
  opened: OpenBackup,
  name: BackupName,
  isListed: () => Promise<boolean>,
): OpenBackup {
  async function explained<T>(work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (error) {
      const mayBeGone = error instanceof HowdahError && error.code === 'backup_damaged'
      if (mayBeGone && !(await isListed().catch(() => true))) throw backupGone(name, error)
      throw error
    }
  }
  return {
    ...opened,
    read: (file, offset, length, signal) => explained(opened.read(file, offset, length, signal)),
  }
}

export const backupGone = ({ repository, instance, backup }: BackupName, cause?: unknown): HowdahError =>
  new HowdahError(
    'backup_gone',
    `backup ${backup} of ${repository}/${instance} is gone: it expired or was deleted while a session used it, and what was not read of it before cannot be read any more; export what can be exported, or publish another backup`,
    { cause },
  )

/** Sessions that are remembered as reported. */
const REMEMBERED = 1000

/** @param report rejects when the report cannot be sent, which is logged and retried at the next failure */
export function createGoneReports(
  report: (session: string, message: string) => Promise<void>,
  logger: Logger,
): (session: string, error: HowdahError) => void {
  const reported = new Set<string>()
  return (session, error) => {
    if (error.code !== 'backup_gone' || reported.has(session)) return
    reported.add(session)
    for (const oldest of reported) {
      if (reported.size <= REMEMBERED) break
      reported.delete(oldest)
    }
    logger.error({ session }, error.message)
    report(session, error.message).catch((failure: unknown) => {
      reported.delete(session)
      logger.warn(
        { session, error: errorBody(failure) },
        'the report that a backup is gone could not be sent',
      )
    })
  }
}
