/** What the kernel says is mounted. Never touches a mount itself: that may hang when its server is gone. */
import { readFileSync } from 'node:fs'

/** Whether something is mounted at exactly this absolute path. */
export function isMounted(path: string): boolean {
  return mountPoints().includes(path)
}

/** Source: proc(5), /proc/pid/mountinfo; the mount point is the fifth field, with octal escapes. */
function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replaceAll(/\\([0-7]{3})/g, (_, code: string) => octal(code)))
}

function octal(code: string): string {
  return String.fromCharCode(Number.parseInt(code, 8))
}
