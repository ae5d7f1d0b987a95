/** The programs that the isolation needs. Every distribution with systemd has them, except nft. */
import { accessSync, constants } from 'node:fs'

export const ADMINISTRATION_PATH = '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin'

/** Of util-linux. */
export const ROOT_PROGRAMS = ['unshare', 'mount', 'umount', 'pivot_root', 'setpriv'] as const
export const NETWORK_PROGRAMS = ['nft', 'setpriv'] as const

/** The names that are not installed. */
export function missingPrograms(names: readonly string[]): string[] {
  return names.filter(
    (name) => !ADMINISTRATION_PATH.split(':').some((directory) => runs(`${directory}/${name}`)),
  )
}

function runs(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
