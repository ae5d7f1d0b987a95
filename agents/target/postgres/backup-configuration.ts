/**
 * Reads the settings that a backup brings along: postgresql.conf and postgresql.auto.conf of its data directory.
 *
 * Only to find out what overrides must build on (limits, memory, preloaded libraries); PostgreSQL reads the files
 * itself when it starts. Contents are untrusted: only regular files of bounded size are read.
 *
 * Syntax: PostgreSQL documentation, "Parameter Interaction via the Configuration File".
 */
import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'

const MAX_FILE_BYTES = 1024 * 1024
/** PostgreSQL's own limit (CONF_FILE_MAX_DEPTH). */
const MAX_DEPTH = 10

/** Settings by lower-case name, the last one of a name winning, as in PostgreSQL. */
export type Settings = ReadonlyMap<string, string>

export interface BackupConfiguration {
  readonly settings: Settings
  /** Those of postgresql.auto.conf alone. */
  readonly automatic?: Settings
  /** Whether the data directory has a postgresql.conf that can be read. */
  readonly hasConfigFile: boolean
}

interface Directive {
  readonly name: string
  readonly value: string
}

/** The directives of one configuration file, in order; lines that PostgreSQL would refuse are skipped. */
export function parseConfiguration(text: string): Directive[] {
  const directives: Directive[] = []
  for (const line of text.split('\n')) {
    const match =
      /^\s*([A-Za-z_][\w$.]*)(?:\s*=\s*|\s+)(?:'((?:[^'\\]|''|\\.)*)'|([^\s#']+))\s*(?:#.*)?$/.exec(line)
    const name = match?.[1]
    if (match === null || name === undefined) continue
    const value =
      match[2] === undefined ? (match[3] ?? '') : match[2].replace(/''/g, "'").replace(/\\(.)/g, '$1')
    directives.push({ name: name.toLowerCase(), value })
  }
  return directives
}

/** @throws the file system's error when the data directory cannot be read */
export async function readBackupConfiguration(data: string): Promise<BackupConfiguration> {
  const settings = new Map<string, string>()
  const [main, automatic] = await Promise.all([
    readSmallFile(join(data, 'postgresql.conf')),
    readSmallFile(join(data, 'postgresql.auto.conf')),
  ])
  if (main !== undefined) await collect(main, data, settings, 0)
  const fromAutomatic = new Map<string, string>()
  if (automatic !== undefined) await collect(automatic, data, fromAutomatic, 0)
  for (const [name, value] of fromAutomatic) settings.set(name, value)
  return { settings, automatic: fromAutomatic, hasConfigFile: main !== undefined }
}

async function collect(
  text: string,
  directory: string,
  into: Map<string, string>,
  depth: number,
): Promise<void> {
  for (const { name, value } of parseConfiguration(text)) {
    if (name !== 'include' && name !== 'include_if_exists' && name !== 'include_dir') {
      into.set(name, value)
      continue
    }
    if (depth >= MAX_DEPTH || value === '') continue
    const path = isAbsolute(value) ? value : join(directory, value)
    for (const file of name === 'include_dir' ? await confFiles(path) : [path]) {
      const included = await readSmallFile(file)
      if (included !== undefined) await collect(included, dirname(file), into, depth + 1)
    }
  }
}

async function confFiles(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory)
    return names
      .filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
      .sort()
      .map((name) => join(directory, name))
  } catch {
    return []
  }
}

/** The text of a regular file, or undefined where there is none that can be read. */
async function readSmallFile(path: string): Promise<string | undefined> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    // Without O_NONBLOCK, opening a FIFO that somebody put there would wait for ever.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EIO' || code === 'ENOTCONN') throw error
    return undefined
  }
  try {
    const stat = await handle.stat()
    if (!stat.isFile() || stat.size > MAX_FILE_BYTES) return undefined
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

const MEMORY_UNITS: Record<string, number> = { B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 }

/**
 * Bytes of a memory setting such as `128MB`, or undefined when it is none.
 * @param unit bytes that a bare number counts; 8192 for shared_buffers
 */
export function parseMemory(value: string, unit: number): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)?\s*$/.exec(value)
  if (match === null) return undefined
  const factor = match[2] === undefined ? unit : (MEMORY_UNITS[match[2]] ?? unit)
  return Math.round(Number(match[1]) * factor)
}

/** A list setting such as shared_preload_libraries, taken apart at its commas. */
export function parseList(value: string): string[] {
  return value
    .split(',')
    .map((item) => item.trim().replace(/^"(.*)"$/, '$1'))
    .filter((item) => item !== '')
}
