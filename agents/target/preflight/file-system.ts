/**
 * Checks whether the file system of a root can hold what Howdah keeps there. What write caches need is tried in a
 * directory that is removed again; only what cannot be tried is known by the file system's name and mount options.
 */
import { stat } from 'node:fs/promises'
import { hasHiddenLimits } from '../filesystem/space/free-space.ts'
import { fileSystemOf, type MountedFileSystem } from '../room/file-system-of.ts'
import { tryAsCache } from './cache-trial.ts'
import type { Finding } from './settings.ts'

/** A server that is away would stop every session, and the agent with them. */
const NETWORK =
  /^(?:nfs\d?|cifs|smb\w*|afs|ceph|lustre|beegfs|gpfs|fuse\.(?:sshfs|glusterfs|ceph|s3fs|rclone|davfs2?))$/
/** They count space when a transaction is committed, as Btrfs does, and nobody has filled a write cache on one. */
const UNTRIED: ReadonlySet<string> = new Set(['zfs', 'bcachefs'])
const MEMORY: ReadonlySet<string> = new Set(['tmpfs', 'ramfs'])
/** Mount options with which a sync does not outlast a power cut. Source: Documentation/filesystems/{overlayfs,ext4}.rst */
const UNSAFE_OPTIONS: ReadonlySet<string> = new Set(['volatile', 'fsync=volatile', 'nobarrier', 'barrier=0'])
const HIDDEN_LIMITS =
  'it has quota groups with limits, which free space does not show, so that PostgreSQL would hear of them by a sync that fails; remove the limits (btrfs qgroup limit none) and set limits.cacheBytes of the agent instead'
const ADVICE = 'Configure another directory, on a local file system such as ext4, XFS or Btrfs.'

/** Findings on the root of mount points, which exists. */
export function mountRootFindings(mountRoot: string): Finding[] {
  return rootFindings('mount', mountRoot, fileSystemOf(mountRoot))
}

/** File systems on which a trial has succeeded: it is made once while the agent runs. */
const tried = new Set<string>()

/** Findings on the root of write caches, which exists and can be written to. */
export async function cacheRootFindings(cacheRoot: string): Promise<Finding[]> {
  const system = fileSystemOf(cacheRoot)
  const byName = rootFindings('cache', cacheRoot, system)
  if (byName.length > 0) return byName
  if (hasHiddenLimits(cacheRoot)) return [refusal('cache', cacheRoot, system, HIDDEN_LIMITS)]
  const { dev } = await stat(cacheRoot)
  const key = [dev, system.type, ...system.options].join()
  const problems = tried.has(key) ? [] : await tryAsCache(cacheRoot)
  if (problems.length === 0) tried.add(key)
  return [
    ...problems.map((problem) => refusal('cache', cacheRoot, system, problem)),
    ...remarks(cacheRoot, system),
  ]
}

/** Findings by the file system alone. */
export function rootFindings(root: 'mount' | 'cache', path: string, system: MountedFileSystem): Finding[] {
  if (NETWORK.test(system.type))
    return [refusal(root, path, system, 'it is a network file system, whose server can be away')]
  if (root === 'cache' && UNTRIED.has(system.type))
    return [refusal(root, path, system, 'Howdah was not tried on it, and it says late that it is full')]
  return []
}

function refusal(
  root: 'mount' | 'cache',
  path: string,
  { type }: MountedFileSystem,
  problem: string,
): Finding {
  return {
    code: 'file_system_unusable',
    message: `The ${root} directory ${path} is on ${type}, which cannot be used: ${problem}. ${ADVICE}`,
  }
}

/** Warnings of how durable it is. */
export function remarks(path: string, { type, options }: MountedFileSystem): Finding[] {
  const said: string[] = []
  if (MEMORY.has(type))
    said.push(
      `${path} is on ${type}: what sessions change is kept in this machine's memory, and lost when it restarts.`,
    )
  const unsafe = options.filter((option) => UNSAFE_OPTIONS.has(option))
  if (unsafe.length > 0)
    said.push(
      `${path} is on ${type} mounted with ${unsafe.join(' and ')}: what sessions have synced can be lost or damaged in a power cut.`,
    )
  if (type.startsWith('fuse'))
    said.push(`${path} is on ${type}: what sessions have synced is as durable as its server makes it.`)
  return said.map((message) => ({ level: 'warning', code: 'file_system_unusable', message }))
}
