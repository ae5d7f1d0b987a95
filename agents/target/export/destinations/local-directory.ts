/**
 * A directory of the target as destination. It must be new or empty. All access to it is by programs with the rights of the
 * session's user: no path can make the agent write, read or remove what that user could not.
 *
 * Dumps are written to a hidden directory below it, and renamed when all are complete.
 */
import { lstat, readdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { HowdahError } from '../../../../messages/errors.ts'
import type { SystemUser } from '../../postgres/specification.ts'
import { fileNameOf } from '../dump/names.ts'
import type { Programs } from '../dump/programs.ts'
import type { DatabaseDump, Destination, Format, WrittenFile } from './destination.ts'
import { dumpName, FORMAT_FLAGS, MANIFEST } from './destination.ts'
import { watchFreeSpace } from './free-space.ts'

export interface LocalDirectoryOptions {
  readonly path: string
  readonly format: Format
  readonly jobs: number
  readonly user: SystemUser
  readonly programs: Programs
  /** Session and export; part of the hidden directory's name. */
  readonly label: string
  readonly cachePath: string
  readonly reserveBytes: number
  readonly claim: Claim
}

/** The part of an export's record that concerns its destination. */
export interface Claim {
  readonly claimed: () => { readonly made: boolean; readonly names: readonly string[] } | undefined
  readonly save: (claimed: { made: boolean; names: string[] }) => Promise<void>
  readonly databases: readonly string[]
}

const SIZE_EVERY_MS = 500

export function localDirectory(options: LocalDirectoryOptions): Destination {
  const { path, format, jobs, user, programs, label, cachePath, reserveBytes, claim } = options
  const hidden = join(path, `.howdah-${label}`)
  const written: string[] = []

  return {
    async open() {
      await requireSafe(path, user)
      const there = await directoryAt(path)
      if (there) {
        const entries = await programs.run('ls', ['-A', '--', path])
        if (entries !== '') throw notEmpty(path, entries.trimEnd().split('\n'))
      }
      await claim.save({ made: !there, names: placedNames(claim.databases, format) })
      if (!there) await make(path)
      await make(hidden)
    },

    async write(dump) {
      const name = dumpName(fileNameOf(dump.database), format)
      const target = join(hidden, name)
      const args = [
        FORMAT_FLAGS[format],
        '-f',
        target,
        ...(format === 'directory' ? ['-j', String(jobs)] : []),
      ]
      try {
        await dumpInto({ dump, args, target, room: { directory: hidden, cachePath, reserveBytes } })
        const files = await hashFiles(programs, target, format)
        written.push(name)
        return { path: join(path, name), bytes: sum(files), files }
      } catch (error) {
        await programs.run('rm', ['-rf', '--', target]).catch(() => undefined)
        throw error
      }
    },

    async finish(manifest) {
      for (const name of written)
        await programs.run('mv', ['-n', '-T', '--', join(hidden, name), join(path, name)])
      const draft = join(hidden, MANIFEST)
      await programs.run('dd', ['conv=excl,fsync', 'status=none', `of=${draft}`], { input: manifest })
      await programs.run('mv', ['-n', '-T', '--', draft, join(path, MANIFEST)])
      await programs.run('rm', ['-rf', '--', hidden])
      await programs.run('sync', ['--', path])
      return join(path, MANIFEST)
    },

    async discard() {
      const claimed = claim.claimed()
      if (!claimed || !(await directoryAt(path))) return []
      const names = [hidden, ...claimed.names.map((name) => join(path, name))]
      // Through a pipe: the paths of thousands of dumps are more than the arguments of a program may be.
      await programs.run('xargs', ['-0', 'rm', '-rf', '--'], { input: names.join('\0') })
      if (!claimed.made) return [`emptied ${path}`]
      // Other files may have been created there meanwhile.
      await programs.run('rmdir', ['--ignore-fail-on-non-empty', '--', path])
      return [`removed ${path}`]
    },

    async close() {},
  }

  async function make(directory: string): Promise<void> {
    await programs.run('mkdir', ['-m', '0700', '--', directory]).catch((error: unknown) => {
      throw unusable(
        `${directory} cannot be made by the user "${user.name}": ${(error as Error).message}. An export is written with that user's rights; make the directory for it: install -d -o ${user.name} -m 0700 ${path}.`,
        error,
      )
    })
  }
}

/** Runs pg_dump into a directory of the export; kills it when space runs out. @throws HowdahError `space_low` */
export async function dumpInto(options: {
  readonly dump: DatabaseDump
  readonly args: readonly string[]
  readonly target: string
  readonly room: { readonly directory: string; readonly cachePath: string; readonly reserveBytes: number }
}): Promise<void> {
  const { dump, args, target, room } = options
  let full = (): void => undefined
  const guard = await watchFreeSpace({ ...room, onFull: () => full() })
  const sizing = setInterval(() => void sizeOf(target).then(dump.progress, () => undefined), SIZE_EVERY_MS)
  try {
    const failed = guard.failure()
    if (failed) throw failed
    const program = dump.start(args)
    full = () => program.kill()
    await program.done
  } catch (error) {
    throw guard.failure() ?? error
  } finally {
    guard.stop()
    clearInterval(sizing)
  }
}

/** Names of everything that an export may create in a directory. */
export function placedNames(databases: readonly string[], format: Format): string[] {
  return [...databases.map((database) => dumpName(fileNameOf(database), format)), MANIFEST]
}

export function notEmpty(where: string, entries: readonly string[]): HowdahError {
  const some = entries.slice(0, 5).join(', ')
  return unusable(
    `${where} is not empty (${some}${entries.length > 5 ? ', …' : ''}); an export overwrites nothing. Name a new or an empty directory.`,
  )
}

/** Sizes and SHA-256 hashes of a dump's files; paths are relative to it, or its name if it is a single file. */
export async function hashFiles(programs: Programs, target: string, format: Format): Promise<WrittenFile[]> {
  const [where, what] =
    format === 'directory' ? [target, '.'] : [dirname(target), target.slice(dirname(target).length + 1)]
  const inside = (script: string): Promise<string> =>
    programs.run('sh', ['-c', `cd "$1" && ${script}`, 'sh', where, what])
  const listed = await inside(`find "./$2" -type f -printf '%s %p\\0'`)
  const hashed = await inside(`find "./$2" -type f -print0 | xargs -0r sha256sum -bz --`)
  // sha256sum(1): 64 digits, a blank, `*` for binary, the name.
  const hashes = new Map(
    hashed.split('\0').map((line) => [cleanPath(line.slice(66)), line.slice(0, 64)] as const),
  )
  return listed
    .split('\0')
    .filter((line) => line !== '')
    .map((line) => {
      const path = cleanPath(line.slice(line.indexOf(' ') + 1))
      return { path, bytes: Number(line.slice(0, line.indexOf(' '))), sha256: hashes.get(path) ?? '' }
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}

export function sum(files: readonly WrittenFile[]): number {
  return files.reduce((total, { bytes }) => total + bytes, 0)
}

const cleanPath = (path: string): string => path.replace(/^(\.\/)+/, '')

const WRITABLE_BY_OTHERS = 0o022
const STICKY = 0o1000

/**
 * Only root, the agent and the session's user may be able to replace a component of the path: through a planted symbolic
 * link the dump, with all its data, would be written elsewhere.
 */
async function requireSafe(path: string, user: SystemUser): Promise<void> {
  if (resolve(path) !== path || path === '/') throw unusable(`"${path}" is not a plain absolute path`)
  const trusted = new Set([0, process.geteuid?.() ?? 0, user.uid])
  for (const directory of ancestry(path)) {
    const stat = await lstat(directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' && directory === path) return undefined
      throw unusable(
        `${directory} cannot be looked at (${error.code}). Make it, or name another directory.`,
        error,
      )
    })
    if (!stat) continue
    const last = directory === path
    if (stat.isSymbolicLink()) throw unusable(`${directory} is a symbolic link; name the directory itself`)
    if (!stat.isDirectory()) throw unusable(`${directory} is not a directory`)
    if (!trusted.has(stat.uid))
      throw unusable(
        `${directory} belongs to uid ${stat.uid}, who could exchange what is in it. Name a directory whose path belongs to root and the user "${user.name}" only.`,
      )
    if ((stat.mode & WRITABLE_BY_OTHERS) !== 0 && (last || (stat.mode & STICKY) === 0))
      throw unusable(
        `${directory} is writable for other users (mode ${(stat.mode & 0o7777).toString(8)}), who could exchange what is in it. Do: chmod go-w ${directory}.`,
      )
  }
}

function ancestry(path: string): string[] {
  const directories = [path]
  for (let at = path; at !== '/'; at = dirname(at)) directories.unshift(dirname(at))
  return directories
}

async function directoryAt(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
}

function unusable(message: string, cause?: unknown): HowdahError {
  return new HowdahError('path_unsafe', message, { field: 'destination.path', cause })
}

/** Bytes of a file, or of the files in a directory. */
async function sizeOf(path: string): Promise<number> {
  const stat = await lstat(path)
  if (!stat.isDirectory()) return stat.size
  const sizes = await Promise.all(
    (await readdir(path)).map((name) =>
      lstat(join(path, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  return sizes.reduce((total, size) => total + size, 0)
}
