/**
 * Checks that no other user can have planted, or can replace, a directory, for example under /tmp and /var/tmp.
 *
 * A path is safe if every component is a real directory, belongs to root or the agent, and no other user may rename its
 * entries: it is not writable for group and others, or sticky as /tmp is. The last directory is writable for the agent only.
 */
import { chmod, lstat, mkdir, mkdtemp, rmdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { SystemUser } from '../postgres/specification.ts'
import { ownName } from './user.ts'

const WRITABLE_BY_OTHERS = 0o022
const STICKY = 0o1000

/** Mode of the roots that preflight creates: sessions can be reached, but not listed. */
export const ROOT_MODE = 0o711

/** The problems with using `path`, each a sentence. The directory is created with mode 0711 if missing. */
export async function directoryProblems(path: string, user: SystemUser | undefined): Promise<string[]> {
  if (!path.startsWith('/') || resolve(path) !== path) return [`"${path}" is not a plain absolute path.`]
  const self = process.geteuid?.() ?? 0
  const components = ancestry(path)
  for (const directory of components) {
    const last = directory === path
    const problem = await examine(directory, last, self)
    if (problem === 'missing') {
      const created = await create(directory)
      if (created !== undefined) return [created]
    } else if (problem !== undefined) return [problem]
  }
  const problems: string[] = []
  if (user !== undefined) {
    const closed = await firstClosedTo(components, user)
    if (closed !== undefined)
      problems.push(
        `The user "${user.name}" may not enter ${closed}, so its instance could not reach ${path}. Choose another directory, or chmod o+x ${closed}.`,
      )
  }
  try {
    await rmdir(await mkdtemp(join(path, '.writable-')))
  } catch (error) {
    problems.push(`${path} is not writable (${(error as Error).message}).`)
  }
  return problems
}

/** All directories from `/` to `path`. */
function ancestry(path: string): string[] {
  const components = [path]
  for (let at = path; at !== '/'; at = dirname(at)) components.unshift(dirname(at))
  return components
}

async function examine(path: string, last: boolean, self: number): Promise<string | undefined> {
  let stat: Awaited<ReturnType<typeof lstat>>
  try {
    stat = await lstat(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    return code === 'ENOENT' ? 'missing' : `${path} cannot be looked at (${code}).`
  }
  if (stat.isSymbolicLink())
    return `${path} is a symbolic link (of uid ${stat.uid}), which could lead anywhere. Remove it if it should not be there, or configure the real path.`
  if (!stat.isDirectory()) return `${path} is not a directory. Move it away.`
  if (stat.uid !== self && (last || stat.uid !== 0))
    return `${path} belongs to uid ${stat.uid}, not to the target agent (uid ${self}, "${ownName()}"). Find out who made it, and remove it or give it to the agent: chown ${ownName()} ${path}.`
  if ((stat.mode & WRITABLE_BY_OTHERS) !== 0 && (last || (stat.mode & STICKY) === 0))
    return `${path} is writable for other users (mode ${(stat.mode & 0o7777).toString(8)}), who could exchange what is in it. Do: chmod go-w ${path}.`
  return undefined
}

async function create(path: string): Promise<string | undefined> {
  try {
    await mkdir(path, { mode: ROOT_MODE })
    // mkdir's mode is subject to the umask.
    await chmod(path, ROOT_MODE)
    return undefined
  } catch (error) {
    // Another session's preflight may have created it at the same time.
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      const problem = await examine(path, true, process.geteuid?.() ?? 0)
      return problem === 'missing' ? `${path} is created and removed by something else meanwhile.` : problem
    }
    return `${path} cannot be created (${(error as Error).message}). Create it for the agent: install -d -o ${ownName()} -m 0711 ${path}.`
  }
}

async function firstClosedTo(components: readonly string[], user: SystemUser): Promise<string | undefined> {
  for (const path of components) {
    const stat = await lstat(path)
    const bit = stat.uid === user.uid ? 0o100 : stat.gid === user.gid ? 0o010 : 0o001
    if ((stat.mode & bit) === 0) return path
  }
  return undefined
}
