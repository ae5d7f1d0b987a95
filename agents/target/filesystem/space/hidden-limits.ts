/**
 * Limits of a file system that statfs(2) does not show. Writes that the kernel has accepted could then find no space without
 * any warning before.
 *
 * That is so of Btrfs with quota groups. Project quotas of XFS and ext4 are shown; quotas of users do not bind root, and
 * without root no writes are cached.
 *
 * Source: Linux, fs/btrfs/sysfs.c (`/sys/fs/btrfs/UUID/qgroups` exists while quotas are enabled, since 5.9), btrfs_statfs.
 */
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { basename } from 'node:path'
import { fileSystemOf } from '../../room/file-system-of.ts'

const SYS = '/sys/fs/btrfs'

/** Whether writes below this directory, which exists, can fail while statfs(2) reports free space. */
export function hasHiddenLimits(directory: string): boolean {
  const { type, source } = fileSystemOf(directory)
  if (type !== 'btrfs') return false
  try {
    const device = basename(realpathSync(source))
    const id = readdirSync(SYS).find((name) => existsSync(`${SYS}/${name}/devices/${device}`))
    return id === undefined || existsSync(`${SYS}/${id}/qgroups`)
  } catch {
    // Without sysfs it is unknown.
    return true
  }
}
