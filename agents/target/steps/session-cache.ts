/** What the step `mount` requires of a session's roots and write cache before it mounts, and leaves of them afterwards. */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { HowdahError } from '../../../messages/errors.ts'
import { isMounted } from '../filesystem/drivers/mount-table.ts'
import type { JournalIdentity } from '../filesystem/durability/journal.ts'
import { isRecovered } from '../postgres/recovery/first-recovery.ts'
import { directoryProblems } from '../preflight/safe-directory.ts'
import type { PreflightSettings } from '../preflight/settings.ts'
import { type PublishedSession, readSession } from '../session/published-session.ts'

type Cache = Pick<PublishedSession, 'session' | 'mountPoint' | 'cachePath'>

/** Creates the roots again, as safe as before: a reboot since the preflight may have emptied /tmp. @throws HowdahError `path_unsafe` */
export async function requireRoots({
  mountRoot,
  cacheRoot,
}: Pick<PreflightSettings, 'mountRoot' | 'cacheRoot'>): Promise<void> {
  for (const root of [mountRoot, cacheRoot]) {
    const [problem] = await directoryProblems(root, undefined)
    if (problem !== undefined) throw new HowdahError('path_unsafe', problem)
  }
}

/**
 * For a session that is resumed: without its write cache it would silently come back as it was in the backup.
 * @throws HowdahError `cache_unusable`
 */
export function requireChanges({ session, cachePath }: Cache): void {
  if (readSession(cachePath)) return
  throw new HowdahError(
    'cache_unusable',
    `the write cache ${cachePath} is gone, and with it what was changed in ${session}; "howdah republish ${session}" publishes it anew from the backup`,
  )
}

/**
 * Removes a write cache whose first recovery was interrupted: that ran without fsync, so its files may be of different
 * moments. No user has changed anything in it yet, and recovery starts anew from the backup.
 * @throws HowdahError `cache_unusable` where the session had recovered and its marker is missing
 */
export async function discardInterruptedRecovery(session: Cache): Promise<void> {
  const { cachePath } = session
  if (await isRecovered(session)) return
  // The marker of a finished recovery is missing, and possibly other files with it.
  if (readSession(cachePath)?.recovered) {
    throw new HowdahError(
      'cache_unusable',
      `files of the write cache ${cachePath} are gone, so what was changed in ${session.session} cannot be trusted; "howdah republish ${session.session}" publishes it anew from the backup`,
    )
  }
  await rm(cachePath, { recursive: true, force: true })
}

/** The identity of the write cache's journal; a new one while the instance was never usable. */
export async function journalOf(session: Cache): Promise<JournalIdentity> {
  return { id: readSession(session.cachePath)?.journal ?? randomUUID(), fresh: !(await isRecovered(session)) }
}

/**
 * Removes a mount point with what was put below it while nothing was mounted.
 * @returns whether there was one
 * @throws HowdahError `mount_failed` while something is mounted there
 */
export async function removeMountPoint(mountPoint: string): Promise<boolean> {
  if (!existsSync(mountPoint)) return false
  if (isMounted(mountPoint)) throw new HowdahError('mount_failed', `${mountPoint} is mounted again`)
  await rm(mountPoint, { recursive: true, force: true })
  return true
}
