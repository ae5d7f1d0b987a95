/**
 * Where the files of a repository may be: below its root, and below directories to which its configuration allows
 * symbolic links to lead. A repository is untrusted: no other link out of it is followed.
 */
import { lstat, realpath } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'

export interface AllowedRoots {
  /** The repository's root. Absolute. */
  readonly root: string
  /** `linkTargets` of the repository: directories outside of it that links may lead to. Absolute. */
  readonly linkTargets?: readonly string[] | undefined
}

/** The roots with links resolved, without link targets that do not exist. */
export async function resolveRoots({ root, linkTargets = [] }: AllowedRoots): Promise<string[]> {
  const others = linkTargets.map((target) => realpath(target).catch(() => undefined))
  const found = await Promise.all([realpath(root), ...others])
  return found.filter((place) => place !== undefined)
}

/** @param real a path with links resolved */
export const isBelowRoots = (places: readonly string[], real: string): boolean =>
  places.some((place) => place === '/' || real === place || real.startsWith(`${place}/`))

/**
 * The path with its links resolved.
 * @throws HowdahError `configuration` when it leads outside; errors of system calls as they are
 */
export async function resolveAllowed(roots: AllowedRoots, path: string): Promise<string> {
  const [places, real] = await Promise.all([resolveRoots(roots), realpath(path)])
  if (isBelowRoots(places, real)) return real
  throw await outsideLinkError(roots, path)
}

/** As `resolveAllowed`; undefined when it does not exist. */
export async function resolveIfExists(roots: AllowedRoots, path: string): Promise<string | undefined> {
  try {
    return await resolveAllowed(roots, path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) {
      return undefined
    }
    throw error
  }
}

/** The error for a path that leads outside: it names the link, its target, and the configuration key that allows it. */
export async function outsideLinkError(roots: AllowedRoots, path: string): Promise<HowdahError> {
  const { link, target } = (await findOutsideLink(roots, path)) ?? { link: path, target: 'another place' }
  return new HowdahError(
    'configuration',
    `${link} is a symbolic link to ${target}, outside of the repository ${roots.root}: it is followed only where the key linkTargets of the repository lists that place, or a directory above it`,
  )
}

/** The first link on the path that leads outside. */
async function findOutsideLink(
  roots: AllowedRoots,
  path: string,
): Promise<{ readonly link: string; readonly target: string } | undefined> {
  const places = await resolveRoots(roots)
  const below = relative(roots.root, path)
  if (below.startsWith('..')) return undefined
  let at = roots.root
  for (const part of below.split('/')) {
    at = join(at, part)
    const found = await lstat(at).catch(() => undefined)
    if (found === undefined) return undefined
    if (!found.isSymbolicLink()) continue
    const target = await realpath(at).catch(() => undefined)
    if (target !== undefined && !isBelowRoots(places, target)) return { link: at, target }
  }
  return undefined
}
