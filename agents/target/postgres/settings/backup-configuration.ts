/**
 * Reads the settings of a backup: postgresql.conf and postgresql.auto.conf of its data directory.
 *
 * Overrides depend on them (limits, memory, preloaded libraries), and the configuration file of the published instance is
 * generated from them. The contents are untrusted: only regular files of bounded size inside the data directory are read.
 */
import { constants } from 'node:fs'
import { open, readdir, readlink } from 'node:fs/promises'
import { dirname, isAbsolute, join, relative } from 'node:path'
import { parseConfiguration } from '../../../runtime/postgresql-conf.ts'

const MAX_FILE_BYTES = 1024 * 1024
/** PostgreSQL's own limit (CONF_FILE_MAX_DEPTH). */
const MAX_DEPTH = 10

/** Settings by lower-case name; the last occurrence wins, as in PostgreSQL. */
export type Settings = ReadonlyMap<string, string>

export interface BackupConfiguration {
  /** From postgresql.conf and the files it includes, overridden by postgresql.auto.conf. */
  readonly settings: Settings
  /** Files and directories that postgresql.conf includes and the backup does not contain, as named there. */
  readonly leftOut: readonly string[]
  /** Lines with a syntax error, as `FILE line NUMBER`. */
  readonly unreadable: readonly string[]
}

/**
 * @param automatic the backup's postgresql.auto.conf, as returned by `extractAutomaticSettings`
 * @throws the file system's error when the data directory cannot be read
 */
export async function readBackupConfiguration(data: string, automatic: string): Promise<BackupConfiguration> {
  const settings = new Map<string, string>()
  const leftOut: string[] = []
  const unreadable: string[] = []
  const file = { name: 'postgresql.conf', directory: data, depth: 0 }
  const into = { data, into: settings, leftOut, unreadable }
  const main = await readSmallFile(data, join(data, file.name))
  if (main !== undefined) await collect(main, { ...into, ...file })
  await collect(automatic, { ...into, ...file, name: 'postgresql.auto.conf' })
  return { settings, leftOut, unreadable }
}

interface Collecting {
  readonly data: string
  /** Of the current file, for messages. */
  readonly name: string
  /** Of the current file. */
  readonly directory: string
  readonly into: Map<string, string>
  readonly leftOut: string[]
  readonly unreadable: string[]
  readonly depth: number
}

async function collect(text: string, collecting: Collecting): Promise<void> {
  const { data, directory, into, leftOut, depth } = collecting
  const directives = parseConfiguration(text, (line) =>
    collecting.unreadable.push(`${collecting.name} line ${line}`),
  )
  for (const { name, value } of directives) {
    if (name !== 'include' && name !== 'include_if_exists' && name !== 'include_dir') {
      // As in PostgreSQL, the last occurrence wins, and determines the order.
      into.delete(name)
      into.set(name, value)
      continue
    }
    if (depth >= MAX_DEPTH || value === '') continue
    const path = isAbsolute(value) ? value : join(directory, value)
    const files = name === 'include_dir' ? await confFiles(path) : [path]
    for (const file of files ?? []) {
      const included = await readSmallFile(data, file)
      if (included === undefined) leftOut.push(value)
      else
        await collect(included, {
          ...collecting,
          name: relative(data, file),
          directory: dirname(file),
          depth: depth + 1,
        })
    }
    if (files === undefined) leftOut.push(value)
  }
}

/** Undefined: the directory does not exist or cannot be read. */
async function confFiles(directory: string): Promise<string[] | undefined> {
  try {
    const names = await readdir(directory)
    return names
      .filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
      .sort()
      .map((name) => join(directory, name))
  } catch {
    return undefined
  }
}

/**
 * The text of a regular file; undefined if there is none that can be read. A file outside the data directory, by whatever
 * links, belongs to this machine and not to the backup.
 */
export async function readSmallFile(data: string, path: string): Promise<string | undefined> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    // Without O_NONBLOCK, opening a FIFO would block.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EIO' || code === 'ENOTCONN') throw error
    return undefined
  }
  try {
    const stat = await handle.stat()
    if (!stat.isFile() || stat.size > MAX_FILE_BYTES) return undefined
    if (!(await readlink(`/proc/self/fd/${handle.fd}`)).startsWith(`${data}/`)) return undefined
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

const MEMORY_UNITS: Record<string, number> = { B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 }

/**
 * Bytes of a memory setting such as `128MB`; undefined if it is not one.
 * @param unit bytes that a number without a unit counts; 8192 for shared_buffers
 */
export function parseMemory(value: string, unit: number): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)?\s*$/.exec(value)
  if (match === null) return undefined
  const factor = match[2] === undefined ? unit : (MEMORY_UNITS[match[2]] ?? unit)
  return Math.round(Number(match[1]) * factor)
}
