/** `--repository NAME=FORMAT:PATH`, `--passphrase-file NAME=FILE` and `--link-target NAME=DIR`: parsed, then checked on disk. */
import { accessSync, constants, statSync } from 'node:fs'
import path from 'node:path'
import { name as nameFormat, type RepositoryConfig } from '../../../config/formats.ts'
import { InvalidValue, UsageError } from '../usage-error.ts'

const FORMATS = ['pgbackrest', 'barman', 'basebackup'] as const

export interface PassphraseFile {
  readonly repository: string
  readonly file: string
}

/** @throws InvalidValue that shows the correct form */
export function parseRepository(text: string): RepositoryConfig {
  const form = 'NAME=FORMAT:PATH, e.g. prod=pgbackrest:/var/lib/pgbackrest'
  const parts = /^([^=]+)=([^:]+):(.+)$/su.exec(text)
  const [, name = '', format = '', location = ''] = parts ?? []
  if (parts === null) throw new InvalidValue(form)
  try {
    nameFormat.validate(name)
  } catch {
    throw new InvalidValue(`${form}; NAME is letters, digits, _ and -, at most 63`)
  }
  const known = FORMATS.find((candidate) => candidate === format)
  if (known === undefined) throw new InvalidValue(`${form}; FORMAT is ${FORMATS.join(', ')}`)
  return { name, format: known, path: path.resolve(location) }
}

export interface LinkTarget {
  readonly repository: string
  readonly directory: string
}

/** @throws InvalidValue that shows the correct form */
export function parseLinkTarget(text: string): LinkTarget {
  const parts = /^([^=]+)=(.+)$/su.exec(text)
  if (parts === null) throw new InvalidValue('NAME=DIR, NAME being a --repository')
  return { repository: parts[1] ?? '', directory: path.resolve(parts[2] ?? '') }
}

/** @throws InvalidValue that shows the correct form */
export function parsePassphraseFile(text: string): PassphraseFile {
  const parts = /^([^=]+)=(.+)$/su.exec(text)
  if (parts === null) throw new InvalidValue('NAME=FILE, NAME being a --repository')
  return { repository: parts[1] ?? '', file: path.resolve(parts[2] ?? '') }
}

/** Combines the flags. @throws UsageError for a duplicate or unknown name */
export function joinFlags(
  repositories: readonly RepositoryConfig[],
  passphrases: readonly PassphraseFile[],
  targets: readonly LinkTarget[],
): RepositoryConfig[] {
  const names = repositories.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new UsageError(`--repository: the name "${twice}" is given twice`)
  const flags = [
    ...passphrases.map(({ repository }) => ['--passphrase-file', repository] as const),
    ...targets.map(({ repository }) => ['--link-target', repository] as const),
  ]
  for (const [flag, repository] of flags) {
    if (names.includes(repository)) continue
    const known = names.length === 0 ? 'none is given' : `there are ${names.join(', ')}`
    throw new UsageError(`${flag}: no --repository is called "${repository}"; ${known}`)
  }
  return repositories.map((given) => {
    const repository = withConfigFile(given)
    const passphrase = passphrases.find((candidate) => candidate.repository === repository.name)
    const linkTargets = targets.flatMap((one) => (one.repository === repository.name ? [one.directory] : []))
    return {
      ...repository,
      ...(passphrase !== undefined && { passphraseFile: passphrase.file }),
      ...(linkTargets.length > 0 && { linkTargets }),
    }
  })
}

/** A file instead of a directory is the configuration file of the backup tool. */
function withConfigFile(repository: RepositoryConfig): RepositoryConfig {
  const { path: location, ...rest } = repository
  const isFile = location !== undefined && statSync(location, { throwIfNoEntry: false })?.isFile() === true
  return isFile && repository.format !== 'basebackup' ? { ...rest, configFile: location } : repository
}

/** @throws UsageError that lists every path that does not exist or cannot be read */
export function checkPaths(repositories: readonly RepositoryConfig[]): void {
  const problems = repositories.flatMap((repository) => [
    ...(repository.path === undefined
      ? []
      : problem(repository.path, 'directory', `--repository ${repository.name}`)),
    ...(repository.passphraseFile === undefined
      ? []
      : problem(repository.passphraseFile, 'file', `--passphrase-file ${repository.name}`)),
  ])
  if (problems.length > 0) throw new UsageError(problems.join('; '))
}

function problem(file: string, kind: 'directory' | 'file', flag: string): string[] {
  const stats = statSync(file, { throwIfNoEntry: false })
  if (stats === undefined) return [`${flag}: ${file} does not exist`]
  if (kind === 'directory' ? !stats.isDirectory() : !stats.isFile())
    return [`${flag}: ${file} is not a ${kind}`]
  try {
    accessSync(file, kind === 'directory' ? constants.R_OK | constants.X_OK : constants.R_OK)
    return []
  } catch {
    return [`${flag}: ${file} cannot be read by this user`]
  }
}
