/** Finds out whether this machine has a loadable library of PostgreSQL. */
import { execFile } from 'node:child_process'
import { realpath } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'
import { exists } from '../process/atomic-file.ts'

const run = promisify(execFile)

export type LibraryFinder = (library: string) => Promise<boolean>

/**
 * @param binaries directory of the executables
 * @param searched value of dynamic_library_path; undefined: PostgreSQL's own directory only
 * @returns a function that tests whether the target has a loadable library of a name; true if that is unknown
 */
export function libraryFinder(binaries: string, searched: string | undefined): LibraryFinder {
  let directory: Promise<string | undefined> | undefined
  return async (library) => {
    directory ??= libraryDirectory(binaries)
    const own = await directory
    if (own === undefined) return isAbsolute(library) ? isThere(library) : true
    const named = library.replace(/^\$libdir(?=\/)/, own)
    // A name with a slash is a path, which is not searched for (PostgreSQL documentation, dynamic_library_path).
    if (named.includes('/')) return isThere(isAbsolute(named) ? named : join(own, named))
    const directories = (searched ?? '$libdir').split(':').map((each) => each.replace(/^\$libdir/, own))
    for (const each of directories) if (await isThere(join(each, named))) return true
    return false
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await exists(path)) || (await exists(`${path}.so`))
}

/** Directory of PostgreSQL's loadable modules ($libdir). */
async function libraryDirectory(binaries: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(`${binaries}/pg_config`, ['--pkglibdir'], { timeout: 10_000 })
    return stdout.trim()
  } catch {
    // Some distributions have pg_config only in their development package.
    const beside = join(await realpath(binaries), '..', 'lib')
    for (const candidate of [beside, join(beside, 'postgresql')]) {
      if (await exists(join(candidate, 'plpgsql.so'))) return candidate
    }
    return undefined
  }
}
