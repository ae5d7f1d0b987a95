/** The kernel's mount table. Never accesses a mount itself: that may hang when its server is gone. */
import { readFileSync } from 'node:fs'

export interface Mount {
  readonly mountPoint: string
  /** The file system's device number, `major:minor`. */
  readonly device: string
}

/** Whether something is mounted at exactly this absolute path. */
export function isMounted(path: string): boolean {
  return findMount(path) !== undefined
}

/** What is mounted at exactly this absolute path; where mounts are stacked, the topmost. */
export function findMount(path: string): Mount | undefined {
  return mounts().findLast(({ mountPoint }) => mountPoint === path)
}

/** Source: proc(5), /proc/pid/mountinfo; the device is the third field, the mount point the fifth, with octal escapes. */
function mounts(): Mount[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => {
      const [, , device = '', , mountPoint = ''] = line.split(' ')
      return { device, mountPoint: mountPoint.replaceAll(/\\([0-7]{3})/g, (_, code: string) => octal(code)) }
    })
}

function octal(code: string): string {
  return String.fromCharCode(Number.parseInt(code, 8))
}
