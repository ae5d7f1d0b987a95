/**
 * The program with which a user without root mounts and unmounts; it is setuid root. It is called fusermount in libfuse 2,
 * fusermount3 in libfuse 3; Debian's fuse3 has both names, RHEL's only its own. Both take the same arguments
 * (fusermount(1), fusermount3(1)).
 */
import { statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const NAMES = ['fusermount', 'fusermount3'] as const
const AS_FUSERMOUNT = join(import.meta.dirname, 'fusermount3')

/** The first in the directories of `path`, which is in the format of PATH. */
export function findFusermount(path = process.env.PATH ?? ''): string | undefined {
  const directories = path.split(delimiter).filter((directory) => directory !== '')
  return NAMES.flatMap((name) => directories.map((directory) => join(directory, name))).find(isFile)
}

/** Not in a directory of PATH that this user may not look into, either. */
function isFile(file: string): boolean {
  try {
    return statSync(file).isFile()
  } catch {
    return false
  }
}

/** The command that unmounts what this user has mounted, before its other arguments. */
export function fusermountCommand(): string {
  return findFusermount() ?? NAMES[0]
}

/** Lets libfuse, which looks along the PATH of this process, find fusermount3 where that is all there is. */
export function letLibfuseFindFusermount(): void {
  const { PATH = '' } = process.env
  if (findFusermount(PATH)?.endsWith(NAMES[1])) process.env.PATH = `${PATH}${delimiter}${AS_FUSERMOUNT}`
}
