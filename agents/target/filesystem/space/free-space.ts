/**
 * How far the free space that a file system reports can be relied on. Writes that the kernel has accepted must find space,
 * and are refused before there is none; that needs a report that is right.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { basename } from 'node:path'
import { fileSystemOf } from '../../room/file-system-of.ts'

const SYS = '/sys/fs/btrfs'
/**
 * Btrfs counts space as used when a transaction is committed, every 30 seconds by default, others when the data is taken:
 * even what was synced by fdatasync was not counted.
 */
const LATE = 'btrfs'
/** Twice that interval. */
export const COUNTED_AFTER_MS = 60_000

/** Whether statfs(2) reports space as free that is taken, until a syncfs(2) or a while later. @param directory exists */
export function countsLate(directory: string): boolean {
  return fileSystemOf(directory).type === LATE
}

/**
 * Whether writes can fail for a limit that statfs(2) does not show, and that binds root: a quota group of Btrfs has one.
 * Project quotas of XFS and ext4 are shown; quotas of users do not bind root.
 *
 * Source: Linux, fs/btrfs/sysfs.c (`/sys/fs/btrfs/UUID/qgroups/LEVEL_ID/limit_flags`, since 5.9).
 * @param directory exists
 */
export function hasHiddenLimits(directory: string): boolean {
  const { type, source } = fileSystemOf(directory)
  if (type !== 'btrfs') return false
  try {
    const device = basename(realpathSync(source))
    const id = readdirSync(SYS).find((name) => existsSync(`${SYS}/${name}/devices/${device}`))
    const groups = `${SYS}/${id}/qgroups`
    if (id === undefined || !existsSync(groups)) return false
    return readdirSync(groups).some((group) => {
      const flags = `${groups}/${group}/limit_flags`
      return existsSync(flags) && Number(readFileSync(flags, 'latin1')) !== 0
    })
  } catch {
    // A group that is being removed, or no sysfs: nothing can be said.
    return false
  }
}
