/**
 * The versions of Howdah in /opt/howdah: which are there, which is current, which are in use, and the removal of those
 * that are not. The links `current` and `previous` are changed in one step each, so that there is always a current one.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { rename, rm, symlink, unlink } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { HowdahError } from '../../../messages/errors.ts'
import type { HostPaths } from './host-paths.ts'
import { ensureDirectory } from './managed-file.ts'

export type VersionLink = 'current' | 'previous'

const LINKS: readonly string[] = ['current', 'previous'] satisfies VersionLink[]
/** What bin/unpack-bundle leaves when it is cut off. */
const PARTIAL = '.partial'
/** No unpacking takes as long. */
const UNPACKING_MS = 3_600_000

/** The version that a link names; undefined: there is no link. */
export function linkedVersion(paths: HostPaths, link: VersionLink): string | undefined {
  try {
    return readlinkSync(path.join(paths.programs, link))
  } catch {
    return undefined
  }
}

/** Names of the directories, partial ones included, sorted. */
export function installedVersions(paths: HostPaths): string[] {
  try {
    return readdirSync(paths.programs, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !LINKS.includes(entry.name))
      .map(({ name }) => name)
      .sort()
  } catch {
    return []
  }
}

/** @throws HowdahError `configuration` unless the directory holds the whole of that version */
export function checkVersion(paths: HostPaths, version: string): void {
  const directory = path.join(paths.programs, version)
  const isName = path.basename(version) === version && !LINKS.includes(version) && !version.endsWith(PARTIAL)
  try {
    if (!isName) throw new Error(`"${version}" is no version`)
    const text = readFileSync(path.join(directory, 'package.json'), 'utf8')
    const found = (JSON.parse(text) as { version: unknown }).version
    if (found !== version) throw new Error(`${directory} holds version ${found}`)
    statSync(path.join(directory, 'bin/node'))
  } catch (cause) {
    const there = installedVersions(paths).join(', ') || 'none'
    throw new HowdahError(
      'configuration',
      `version ${version} is not installed here: ${(cause as Error).message}. Installed in ${paths.programs}: ${there}`,
      { cause },
    )
  }
}

/** Where the command of the Debian package leads. What npm puts in its place leads elsewhere. */
const PACKAGED = '/opt/howdah/current/bin/howdah'

export function isPackaged(paths: HostPaths): boolean {
  return isLinkTo(paths.packagedCommand, PACKAGED)
}

export function isLinkTo(link: string, target: string): boolean {
  try {
    return readlinkSync(link) === target
  } catch {
    return false
  }
}

/** The version that this program is of, if it is one of those in /opt/howdah. */
export function ownVersion(paths: HostPaths): string | undefined {
  const program = path.relative(paths.programs, fileURLToPath(import.meta.url))
  const [version] = program.split(path.sep)
  return version === undefined || version === '..' ? undefined : version
}

/** @returns whether the link was another one */
export async function setLink(paths: HostPaths, link: VersionLink, version: string): Promise<boolean> {
  if (linkedVersion(paths, link) === version) return false
  await replaceLink(path.join(paths.programs, link), version)
  return true
}

/** That of a version which is gone: a package manager removes the one before. */
export async function removeDanglingLink(paths: HostPaths, link: VersionLink): Promise<void> {
  const version = linkedVersion(paths, link)
  if (version === undefined || existsSync(path.join(paths.programs, version))) return
  await unlink(path.join(paths.programs, link))
}

/** Replaces a symbolic link, or makes it, in one step. */
export async function replaceLink(link: string, target: string): Promise<void> {
  await ensureDirectory(path.dirname(link), { mode: 0o755, owner: { uid: 0, gid: 0 } })
  const temporary = `${link}.${process.pid}.new`
  await unlink(temporary).catch(() => undefined)
  await symlink(target, temporary)
  await rename(temporary, link)
}

/** Processes that run the Node.js of a version, by process id. */
export function processesOf(paths: HostPaths, version: string): number[] {
  const node = fileOf(path.join(paths.programs, version, 'bin/node'))
  if (node === undefined) return []
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => fileOf(`/proc/${pid}/exe`) === node)
    .map(Number)
}

/** The version whose Node.js a process runs; undefined: none of those that are here, or it has ended. */
export function versionOfProcess(paths: HostPaths, pid: number): string | undefined {
  const program = fileOf(`/proc/${pid}/exe`)
  if (program === undefined) return undefined
  return installedVersions(paths).find(
    (version) => fileOf(path.join(paths.programs, version, 'bin/node')) === program,
  )
}

/** By what a file is, so that a process in another mount namespace is recognised, too. */
function fileOf(file: string): string | undefined {
  try {
    const { dev, ino } = statSync(file)
    return `${dev} ${ino}`
  } catch {
    return undefined
  }
}

function isBeingUnpacked(paths: HostPaths, version: string): boolean {
  if (!version.endsWith(PARTIAL)) return false
  const found = statSync(path.join(paths.programs, version), { throwIfNoEntry: false })
  return found !== undefined && Date.now() - found.mtimeMs < UNPACKING_MS
}

/**
 * Removes the versions that are neither current nor previous and that no process runs, and what was not completed within an
 * hour.
 * @returns those that were removed
 */
export async function removeUnusedVersions(paths: HostPaths): Promise<string[]> {
  const kept = [linkedVersion(paths, 'current'), linkedVersion(paths, 'previous'), ownVersion(paths)]
  const unused = installedVersions(paths).filter(
    (version) =>
      !kept.includes(version) && !isBeingUnpacked(paths, version) && processesOf(paths, version).length === 0,
  )
  for (const version of unused) await rm(path.join(paths.programs, version), { recursive: true, force: true })
  return unused
}
