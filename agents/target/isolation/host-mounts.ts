/** The mounts of this machine as the kernel lists them. Reads /proc only: a mount itself may hang. */
import { readFileSync } from 'node:fs'

export interface HostMount {
  readonly mountPoint: string
  readonly type: string
}

/** In the order in which they were mounted. Source: proc(5), /proc/pid/mountinfo. */
export function hostMounts(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): HostMount[] {
  return mountinfo
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ')
      return { mountPoint: unescaped(before.split(' ')[4] ?? ''), type: after.split(' ')[0] ?? '' }
    })
}

/** A field of mountinfo without its octal escapes. */
export function unescaped(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)))
}

/** Whether `path` is `directory` or lies below it; both absolute and normalised. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || directory === '/' || path.startsWith(`${directory}/`)
}
