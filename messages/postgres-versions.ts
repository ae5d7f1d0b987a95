/** The major versions of PostgreSQL that this release of Howdah knows. Another one may have other files, WAL and settings. */

/** Oldest first. */
export const PUBLISHABLE_VERSIONS: readonly string[] = [
  '9.6',
  '10',
  '11',
  '12',
  '13',
  '14',
  '15',
  '16',
  '17',
  '18',
]

const NUMBER = /^\d+(\.\d+)?$/

/**
 * Why a backup of a major version is not published, as a sentence about the backup without its full stop; undefined: it can
 * be. What is no version, as of a backup that could not be read, is not judged.
 */
export function versionProblem(version: string): string | undefined {
  if (PUBLISHABLE_VERSIONS.includes(version) || !NUMBER.test(version)) return undefined
  return `it is of PostgreSQL ${version}, which this release of Howdah does not know; it publishes ${knownVersions()}`
}

/** `PostgreSQL 9.6 to 18`. */
export function knownVersions(): string {
  return `PostgreSQL ${PUBLISHABLE_VERSIONS[0]} to ${PUBLISHABLE_VERSIONS.at(-1)}`
}
