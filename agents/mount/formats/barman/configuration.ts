/**
 * Reads from Barman's own configuration where a server's directories are: INI sections, `[barman]` for all and one for
 * each server, also in the files of `configuration_files_directory` (barman/config.py). Values may refer to others by
 * `%(name)s`.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import { isSystemError } from '../../decode/stored-file.ts'
import type { ServerDirectories } from './server-directories.ts'

const GLOBAL = 'barman'
const MAX_REFERENCES = 20

type Section = Map<string, string>

/** Where the directories of each server are. @throws HowdahError `configuration` */
export async function readBarmanConfiguration(file: string): Promise<Map<string, ServerDirectories>> {
  const sections = new Map<string, Section>()
  await readSections(file, sections)
  const shared = sections.get(GLOBAL) ?? new Map<string, string>()
  const below = shared.get('configuration_files_directory')
  if (below !== undefined && below !== '') {
    const names = await readdir(below).catch(() => [])
    for (const name of names.filter((one) => one.endsWith('.conf')).sort()) {
      await readSections(join(below, name), sections)
    }
  }
  const home = shared.get('barman_home')
  const places = new Map<string, ServerDirectories>()
  for (const [name, section] of sections) {
    // From version 3.10 on, a section may be a model, which is no server of its own.
    if (name === GLOBAL || section.get('model') === 'true') continue
    const values = new Map([...DEFAULTS, ...section, ['name', name] as const])
    if (home !== undefined) values.set('barman_home', home)
    const directory = (key: string) => absolute(resolved(values, key, file, name), key, file, name)
    const backup = directory('backup_directory')
    places.set(name, {
      backups: directory('basebackups_directory'),
      wals: directory('wals_directory'),
      received: [directory('streaming_wals_directory'), directory('incoming_wals_directory')],
      meta: join(backup, 'meta'),
      root: backup,
    })
  }
  if (places.size === 0) {
    throw new HowdahError('configuration', `the configFile ${file} configures no server of Barman`)
  }
  return places
}

const DEFAULTS: readonly (readonly [key: string, value: string])[] = [
  ['backup_directory', '%(barman_home)s/%(name)s'],
  ['basebackups_directory', '%(backup_directory)s/base'],
  ['wals_directory', '%(backup_directory)s/wals'],
  ['streaming_wals_directory', '%(backup_directory)s/streaming'],
  ['incoming_wals_directory', '%(backup_directory)s/incoming'],
]

function resolved(values: Section, key: string, file: string, server: string): string {
  let text = values.get(key) ?? ''
  for (let count = 0; count < MAX_REFERENCES && /%\(\w+\)s/.test(text); count += 1) {
    text = text.replace(/%\((\w+)\)s/g, (_, name: string) => {
      const value = values.get(name)
      if (value !== undefined) return value
      throw new HowdahError(
        'configuration',
        `${file}: ${key} of server ${server} refers to ${name}, which is not set`,
      )
    })
  }
  return text.replaceAll('%%', '%')
}

function absolute(path: string, key: string, file: string, server: string): string {
  if (path.startsWith('/')) return path
  throw new HowdahError('configuration', `${file}: ${key} of server ${server} is no absolute path`)
}

async function readSections(file: string, sections: Map<string, Section>): Promise<void> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw new HowdahError(
      'configuration',
      `the configFile ${file} cannot be read: ${isSystemError(error) ? error.code : 'unknown reason'}`,
      { cause: error },
    )
  }
  let section: Section | undefined
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue
    const [, header] = /^\[([^\]]+)\]/.exec(line) ?? []
    if (header !== undefined) {
      section = sections.get(header) ?? new Map()
      sections.set(header, section)
      continue
    }
    const [, key, value] = /^([^=:\s][^=:]*?)\s*[=:]\s*(.*?)\s*$/.exec(line) ?? []
    if (section === undefined || key === undefined || value === undefined) continue
    section.set(key.toLowerCase(), value.replace(/^(["'])(.*)\1$/, '$2'))
  }
}
