/**
 * Reads from pgBackRest's own configuration file where a repository is and its passphrase: `key=value` lines in
 * sections `[global]`, `[global:command]`, `[stanza]` and `[stanza:command]` (doc/xml/user-guide.xml,
 * src/config/parse.c). If it is at its default path, the files of the directory conf.d beside it are read too.
 */
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'

const USUAL_PLACE = '/etc/pgbackrest/pgbackrest.conf'
const DEFAULT_PATH = '/var/lib/pgbackrest'

export interface PgbackrestConfiguration {
  readonly root: string
  /** Undefined: not encrypted. */
  readonly passphrase: string | undefined
}

/**
 * @param repo the N of `repoN-…`
 * @throws HowdahError `configuration` when the file cannot be read, or describes a repository that cannot be read
 */
export async function readPgbackrestConfiguration(
  file: string,
  repo: number,
): Promise<PgbackrestConfiguration> {
  const wrong = (finding: string) => new HowdahError('configuration', `${file}: ${finding}`)
  const options = new Map<string, string>()
  /** Repositories that the file configures. */
  const numbers = new Set<number>()
  for (const { section, key, value } of await readLines(file)) {
    const [, number, option] = /^repo(\d*)-(.+)$/.exec(key) ?? []
    if (option === undefined || value === '') continue
    // `repo-path` is what `repo1-path` was called until version 2.
    numbers.add(Number(number || 1))
    if (Number(number || 1) !== repo) continue
    const known = options.get(option)
    const needed = ['path', 'type', 'host', 'cipher-type', 'cipher-pass'].includes(option)
    if (needed && known !== undefined && known !== value && section !== 'global') {
      throw wrong(
        `repo${repo}-${option} is not the same in all sections; configure each repository with path and passphraseFile instead`,
      )
    }
    options.set(option, value)
  }
  if (repo !== 1 && !numbers.has(repo)) {
    const there = numbers.size === 0 ? 'none' : [...numbers].sort((a, b) => a - b).join(', ')
    throw wrong(`it has no repository ${repo}; there are: ${there}`)
  }
  const type = options.get('type') ?? 'posix'
  if (type !== 'posix' && type !== 'cifs') {
    throw wrong(
      `repo${repo}-type is ${type}; Howdah reads repositories on a file system (posix), where the mount agent runs`,
    )
  }
  const host = options.get('host')
  if (host !== undefined) {
    throw wrong(
      `repository ${repo} is on the host ${host} (repo${repo}-host); run the mount agent there, with the configuration file of that host`,
    )
  }
  const cipher = options.get('cipher-type') ?? 'none'
  if (cipher !== 'none' && cipher !== 'aes-256-cbc') {
    throw wrong(`repo${repo}-cipher-type is ${cipher}; Howdah knows none and aes-256-cbc`)
  }
  const passphrase = options.get('cipher-pass')
  if (cipher !== 'none' && passphrase === undefined) {
    throw wrong(
      `repo${repo}-cipher-type is ${cipher}, but there is no repo${repo}-cipher-pass; configure the repository with path and passphraseFile instead`,
    )
  }
  return {
    root: options.get('path') ?? DEFAULT_PATH,
    passphrase: cipher === 'none' ? undefined : passphrase,
  }
}

interface Line {
  readonly section: string
  readonly key: string
  readonly value: string
}

async function readLines(file: string): Promise<Line[]> {
  const lines: Line[] = []
  for (const part of [file, ...(file === USUAL_PLACE ? await included(file) : [])]) {
    let text: string
    try {
      text = await readFile(part, 'utf8')
    } catch (error) {
      throw new HowdahError(
        'configuration',
        `the configFile ${part} cannot be read: ${isSystemError(error) ? error.code : 'unknown reason'}`,
        { cause: error },
      )
    }
    let section = ''
    for (const line of text.split('\n')) {
      const [, header] = /^\s*\[([^\]]+)\]\s*$/.exec(line) ?? []
      if (header !== undefined) section = header
      const [, key, value] = /^\s*([a-z0-9-]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []
      if (key !== undefined && value !== undefined) lines.push({ section, key, value })
    }
  }
  // Stanza sections come last: they override [global].
  return lines.sort((a, b) => Number(a.section !== 'global') - Number(b.section !== 'global'))
}

async function included(file: string): Promise<string[]> {
  const directory = join(dirname(file), 'conf.d')
  const names = await readdir(directory).catch(() => [])
  return names
    .filter((name) => name.endsWith('.conf'))
    .sort()
    .map((name) => join(directory, name))
}
