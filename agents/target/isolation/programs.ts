/** The programs of other packages by which walls are built, all of them on every distribution with systemd but nft. */
import { accessSync, constants } from 'node:fs'

export const ADMINISTRATION_PATH = '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin'

/** Of util-linux. */
export const ROOT_PROGRAMS = ['unshare', 'mount', 'umount', 'pivot_root', 'setpriv'] as const
export const NETWORK_PROGRAMS = ['nft', 'setpriv'] as const

/** Those that are not there. */
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
