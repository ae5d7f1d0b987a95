/** Checks whether the extensions of a backup's databases and its preloaded libraries are installed on the target. */
import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import { errorBody } from '../../../messages/errors.ts'
import type { CatalogSummary } from '../../../messages/steps.ts'
import { libraryFinder } from '../postgres/settings/library-finder.ts'
import { isEssential, missingLibrary } from '../postgres/settings/preload-libraries.ts'
import { namedDatabases } from './locales.ts'
import type { Finding } from './settings.ts'

const run = promisify(execFile)

const ENDING = '.control'

/**
 * A missing extension is a warning, since only its own functions and types fail; without one that owns data it is an error.
 * @param binaries directory of the executables of the major version
 */
export async function extensionFindings(
  extensions: CatalogSummary['extensions'],
  binaries: string,
): Promise<Finding[]> {
  if (extensions.length === 0) return []
  const installed = await installedExtensions(binaries)
  if (installed === undefined) return []
  return extensions
    .filter(({ name }) => !installed.has(name))
    .map(({ name, ...users }) => ({
      ...(isEssential(name) ? {} : { level: 'warning' }),
      code: 'library_missing',
      message: `The target lacks the extension "${name}" of ${namedDatabases(users)}: ${isEssential(name) ? 'the data cannot be read without' : 'what uses its functions or types fails'}. Install its package for this major version.`,
    }))
}

/** The same for libraries that the server preloads and that own data: the others are left out of the list. */
export async function libraryFindings(libraries: readonly string[], binaries: string): Promise<Finding[]> {
  const exists = libraryFinder(binaries, undefined)
  const findings: Finding[] = []
  for (const library of libraries)
    if (isEssential(library) && !(await exists(library)))
      findings.push(errorBody(missingLibrary('shared_preload_libraries', library)))
  return findings
}

/** Undefined: their directory is unknown. */
async function installedExtensions(binaries: string): Promise<ReadonlySet<string> | undefined> {
  try {
    const { stdout } = await run(`${binaries}/pg_config`, ['--sharedir'], { timeout: 10_000 })
    const files = await readdir(`${stdout.trim()}/extension`)
    return new Set(files.filter((file) => file.endsWith(ENDING)).map((file) => file.slice(0, -ENDING.length)))
  } catch {
    return undefined
  }
}
