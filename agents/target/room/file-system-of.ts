/** The file system that a directory is on, as the kernel's mount table describes it. */
import { readFileSync, realpathSync } from 'node:fs'
import { isWithin, unescaped } from '../isolation/host-mounts.ts'

export interface MountedFileSystem {
  readonly mountPoint: string
  /** As in mountinfo, e.g. `ext4`, `fuse.sshfs`. */
  readonly type: string
  /** Usually the device, e.g. /dev/sda1. */
  readonly source: string
  /** Those of the mount and of the file system. */
  readonly options: readonly string[]
}

/** @param directory exists. Source: proc(5), /proc/pid/mountinfo */
export function fileSystemOf(
  directory: string,
  mountinfo = readFileSync('/proc/self/mountinfo', 'utf8'),
): MountedFileSystem {
  const path = realpathSync(directory)
  let found: MountedFileSystem = { mountPoint: '/', type: '', source: '', options: [] }
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , , escaped = '', own = ''] = before.split(' ')
    const mountPoint = unescaped(escaped)
    if (line === '' || !isWithin(path, mountPoint) || mountPoint.length < found.mountPoint.length) continue
    const [type = '', source = '', shared = ''] = after.split(' ')
    found = {
      mountPoint,
      type,
      source: unescaped(source),
      options: [...own.split(','), ...shared.split(',')],
    }
  }
  return found
}
