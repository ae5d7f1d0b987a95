/** Creates the directories of one session, below roots that `directoryProblems` has checked. */
import { chmod, lchown, lstat, mkdir } from 'node:fs/promises'
import { HowdahError } from '../../../messages/errors.ts'
import { isMounted } from '../filesystem/drivers/mount-table.ts'

export interface SessionDirectories {
  readonly mountPoint: string
  readonly cachePath: string
  /** The user of the instance. */
  readonly uid: number
  readonly gid: number
}

/**
 * Creates mount point and write cache where they are missing. Safe to repeat, also while mounted: the mount is not touched.
 *
 * The mount point belongs to the agent, mode 0700; a mount replaces both. In the write cache (the agent's, 0711) `pg_wal`,
 * `ready_wal` and `run` belong to the instance's user alone; `conf` is the agent's and readable for the user; the user's
 * group may read `log`.
 * @throws HowdahError `path_unsafe` when something else is in the way
 */
export async function prepareSessionDirectories(directories: SessionDirectories): Promise<void> {
  const { mountPoint, cachePath, uid, gid } = directories
  const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 }
  const user = { uid, gid }
  if (!isMounted(mountPoint)) await ensure(mountPoint, 0o700, self)
  await ensure(cachePath, 0o711, self)
  await ensure(`${cachePath}/pg_wal`, 0o700, user)
  await ensure(`${cachePath}/ready_wal`, 0o700, user)
  await ensure(`${cachePath}/run`, 0o700, user)
  await ensure(`${cachePath}/conf`, 0o755, self)
  await ensure(`${cachePath}/log`, 0o750, { uid: self.uid, gid })
}

async function ensure(path: string, mode: number, owner: { uid: number; gid: number }): Promise<void> {
  let created = true
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new HowdahError('path_unsafe', `${path} cannot be created: ${(error as Error).message}`, {
        cause: error,
      })
    created = false
  }
  const stat = await lstat(path)
  if (!stat.isDirectory())
    throw new HowdahError(
      'path_unsafe',
      `${path} is in the way: it is not a directory. Find out who made it and remove it.`,
    )
  // An agent that was killed between mkdir and chown has left the directory with its own uid.
  if (stat.uid !== owner.uid && stat.uid !== (process.geteuid?.() ?? 0))
    throw new HowdahError(
      'path_unsafe',
      `${path} belongs to uid ${stat.uid} instead of ${owner.uid}. Find out who made it and remove it.`,
    )
  if (created || stat.uid !== owner.uid || stat.gid !== owner.gid || (stat.mode & 0o7777) !== mode) {
    await lchown(path, owner.uid, owner.gid)
    await chmod(path, mode)
  }
}
