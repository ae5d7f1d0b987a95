/** Removes agents from a host, and at the last one Howdah itself. Refuses while sessions have something mounted here. */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { rm, unlink } from 'node:fs/promises'
import path from 'node:path'
import { HowdahError } from '../../../messages/errors.ts'
import { agentsOfHost } from './host-agents.ts'
import {
  type AgentKind,
  configurationFile,
  type HostPaths,
  identityFiles,
  roleOf,
  SYSTEM_USER,
} from './host-paths.ts'
import { removeFile } from './installed-file.ts'
import { isLinkTo, isPackaged } from './installed-versions.ts'
import { readIfThere } from './managed-file.ts'
import { type HostReport, note } from './report.ts'
import type { Supervisor } from './supervisor.ts'
import { deleteSystemUser, findSystemUser } from './system-user.ts'

/** What an agent has started may end a moment after it. */
const USER_DEADLINE_MS = 10_000

export interface RemovalRequest {
  readonly kinds: readonly AgentKind[]
  /** Configuration, identity, state, logs and the system user, too. */
  readonly purge: boolean
}

/** @throws HowdahError `agent_in_use` while something is published here; nothing is removed then */
export async function removeAgents(
  paths: HostPaths,
  supervisor: Supervisor,
  { kinds, purge }: RemovalRequest,
): Promise<HostReport> {
  const report: HostReport = { changed: [], kept: [] }
  const roots = kinds.includes('target') ? await sessionRoots(paths) : undefined
  if (roots !== undefined) refuseWhilePublished(paths, roots)
  for (const kind of kinds) {
    await supervisor.stop(kind)
    await supervisor.uninstall(kind, report)
    if (purge) await purgeAgent(paths, kind, report)
  }
  if (purge && roots !== undefined)
    for (const root of [roots.mountRoot, roots.cacheRoot]) await removeTree(root, report)
  if (agentsOfHost(paths).some((kind) => !kinds.includes(kind))) return report
  await removePrograms(paths, report)
  if (purge) await purgeHost(paths, report)
  return report
}

/** Mount processes have their session in their title; what a session left in its write cache is its changes. */
function refuseWhilePublished(paths: HostPaths, { cacheRoot }: SessionRoots): void {
  const mounted = readdirSync('/proc').flatMap((pid) => sessionOf(paths, pid) ?? [])
  const cached = list(cacheRoot).filter((name) => holdsSession(path.join(cacheRoot, name)))
  const sessions = [...new Set([...mounted, ...cached])]
  if (sessions.length === 0) return
  throw new HowdahError(
    'agent_in_use',
    `there are sessions on this host: ${sessions.join(', ')}. Unpublish them first ("howdah unpublish SESSION"), or delete ${cacheRoot}/SESSION of one that nobody needs and that is not mounted`,
  )
}

function sessionOf(paths: HostPaths, pid: string): string | undefined {
  if (!/^\d+$/.test(pid)) return undefined
  try {
    const program = `/proc/${pid}/exe`
    const file = readlinkSync(program)
    if (!file.startsWith(`${paths.programs}/`)) return undefined
    // In a container another file has that name. Of a version that is no longer there, none has it.
    if (!file.endsWith(' (deleted)') && !isSameFile(program, file)) return undefined
    return /^howdah mount (\S+)/.exec(readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '))?.[1]
  } catch {
    return undefined
  }
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [statSync(one), statSync(other)]
  return a.dev === b.dev && a.ino === b.ino
}

interface SessionRoots {
  readonly mountRoot: string
  readonly cacheRoot: string
}

/** As config/schema.ts has them. */
const DEFAULT_ROOTS: SessionRoots = { mountRoot: '/tmp/howdah', cacheRoot: '/var/tmp/howdah' }

/** Where the target agent has its sessions, by its configuration. @throws SyntaxError when that is not JSON */
async function sessionRoots(paths: HostPaths): Promise<SessionRoots> {
  const text = await readIfThere(configurationFile(paths, 'target'))
  const configured = text === undefined ? {} : (JSON.parse(text) as { readonly [key: string]: unknown })
  const rootOf = (key: keyof SessionRoots) => {
    const value = configured[key]
    return typeof value === 'string' && path.isAbsolute(value) ? value : DEFAULT_ROOTS[key]
  }
  return { mountRoot: rootOf('mountRoot'), cacheRoot: rootOf('cacheRoot') }
}

/** Copies of a repository's blocks belong to no session. */
function holdsSession(cache: string): boolean {
  return ['mount.json', 'conf/session.json'].some((file) => existsSync(path.join(cache, file)))
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

async function purgeAgent(paths: HostPaths, kind: AgentKind, report: HostReport): Promise<void> {
  const { certificate, key } = identityFiles(paths, kind)
  const logs = ['log', 'log.1'].map((ending) => path.join(paths.log, `${roleOf(kind)}.${ending}`))
  for (const file of [configurationFile(paths, kind), certificate, key, ...logs])
    if (await removeFile(file)) note(report, file, true)
  await removeTree(path.join(paths.state, roleOf(kind)), report)
}

async function removePrograms(paths: HostPaths, report: HostReport): Promise<void> {
  if (isPackaged(paths))
    return note(report, `${paths.programs}: of the package; "apt purge howdah" removes it`, false)
  const { command, programs } = paths
  if (isLinkTo(command, path.join(programs, 'current/bin/howdah'))) {
    await unlink(command)
    note(report, command, true)
  }
  await removeTree(programs, report)
  await removeTree(paths.run, report)
}

async function purgeHost(paths: HostPaths, report: HostReport): Promise<void> {
  // The directories of a package are its own.
  const own = isPackaged(paths) ? [paths.tls] : [paths.configuration]
  for (const tree of [...own, paths.state, paths.log]) await removeTree(tree, report)
  if (isPackaged(paths) || (await findSystemUser()) === undefined) return
  await deleteSystemUser(USER_DEADLINE_MS)
  note(report, `user ${SYSTEM_USER}`, true)
}

async function removeTree(directory: string, report: HostReport): Promise<void> {
  if (!existsSync(directory)) return
  await rm(directory, { recursive: true, force: true })
  note(report, directory, true)
}
