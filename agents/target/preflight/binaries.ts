/** Finds the PostgreSQL executables of a major version. */
import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { promisify } from 'node:util'
import { PUBLISHABLE_VERSIONS, versionProblem } from '../../../messages/postgres-versions.ts'
import { runAs } from '../postgres/process/user-process.ts'
import type { SystemUser } from '../postgres/specification.ts'
import type { Finding, Lookup } from './settings.ts'

const run = promisify(execFile)

/**
 * The first of `directories` with executables of that version that `user` (undefined: this process) can run.
 * @param version major version, e.g. "15"
 * @param directories with `%v` for the version
 */
export async function lookUpBinaries(
  version: string,
  directories: readonly string[],
  user: SystemUser | undefined,
): Promise<Lookup<string>> {
  const unknown = versionProblem(version)
  if (unknown !== undefined)
    return {
      findings: [{ code: 'backup_unsupported', message: `The backup cannot be published here: ${unknown}.` }],
    }
  const candidates = directories.map((directory) => directory.replaceAll('%v', version))
  const problems: string[] = []
  for (const directory of candidates) {
    if (!(await isThere(`${directory}/postgres`))) continue
    const problem = await examine(directory, version, user)
    if (problem === undefined) return { value: directory }
    problems.push(problem)
  }
  const finding: Finding =
    problems.length > 0
      ? {
          code: 'postgres_missing',
          message: `PostgreSQL ${version} on the target cannot be used: ${problems.join('; ')}.`,
        }
      : {
          code: 'postgres_missing',
          message: `The backup is of PostgreSQL ${version}, which is not installed on the target (looked in ${candidates.join(', ')}). Install the server of that major version (${packagesOf(version)}), or add its directory to the target agent's configuration.`,
        }
  return { findings: [finding] }
}

/** What Debian and Ubuntu, and the repository of PGDG for dnf, call the server: with and without the dot of 9.6. */
const packagesOf = (version: string): string =>
  `apt: postgresql-${version}; dnf: postgresql${version.replace('.', '')}-server`

/** The major version in the output of `postgres --version`: "postgres (PostgreSQL) 15.14 (Debian 15.14-0)" gives "15". */
export function majorOf(output: string): string | undefined {
  return /\) (9\.\d|\d{2})/.exec(output)?.[1]
}

/** Major versions that have executables in one of `directories`, oldest first; for the inventory. */
export async function installedVersions(directories: readonly string[]): Promise<string[]> {
  const places = directories.flatMap((directory) =>
    directory.includes('%v')
      ? PUBLISHABLE_VERSIONS.map((version) => directory.replaceAll('%v', version))
      : [directory],
  )
  const found = new Set<string>()
  for (const place of new Set(places)) {
    if (!(await isThere(`${place}/postgres`))) continue
    // Executables that cannot be run are reported by the preflight of a publish.
    const version = await versionOf(place, undefined).catch(() => undefined)
    if (version?.major !== undefined) found.add(version.major)
  }
  return PUBLISHABLE_VERSIONS.filter((version) => found.has(version))
}

async function examine(
  directory: string,
  version: string,
  user: SystemUser | undefined,
): Promise<string | undefined> {
  try {
    const { major, said } = await versionOf(directory, user)
    return major === version ? undefined : `${directory}/postgres says it is ${said}`
  } catch (error) {
    const { code, message } = error as { code?: unknown; message: string }
    const who = user === undefined ? '' : ` as "${user.name}"`
    return `${directory}/postgres cannot be run${who} (${typeof code === 'string' ? code : message.trim()})`
  }
}

async function versionOf(
  directory: string,
  user: SystemUser | undefined,
): Promise<{ readonly said: string; readonly major: string | undefined }> {
  const { stdout } = await run(`${directory}/postgres`, ['--version'], {
    ...(user === undefined ? {} : runAs(user)),
    cwd: '/',
    timeout: 10_000,
  })
  return { said: stdout.trim(), major: majorOf(stdout) }
}

async function isThere(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  )
}
