/**
 * The walls around a session's server: which this machine can build, putting them up and taking them down.
 *
 * What was put up is noted beside the session's configuration, so that any agent process can take it down. Taking down
 * is safe to repeat and uses no thread of the pool: each may wait for a mount that hangs.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { z } from 'zod'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'
import { type InstanceSpec, instancePaths } from '../postgres/specification.ts'
import { killCgroup, makeCgroup, ownCgroup, removeCgroup } from './cgroup.ts'
import type { Enclosure } from './enclosed-command.ts'
import { networkRules, tableName } from './network-rules.ts'
import { applyRules, listTables, nft } from './nft.ts'
import { hostsFile, parseOutbound, resolveOutbound } from './outbound.ts'
import type { TablespaceBinding } from './root-layout.ts'
import { makeSessionRoot, removeSessionRoot } from './session-root.ts'

/** A wall that this machine can build, or why it cannot. */
export type Wall = { readonly stands: true } | { readonly stands: false; readonly reason: string }

export interface Walls {
  /** Nothing outside of the session can be written. */
  readonly fileSystem: Wall
  /** Nothing outside of the session can be connected to. */
  readonly network: Wall
}

export interface IsolationSettings {
  readonly walls: Walls
  /** Directories of the agent's configuration. */
  readonly readable: readonly string[]
  readonly writable: readonly string[]
}

/** As for an agent that knows of none. */
export const NO_WALLS: IsolationSettings = {
  walls: {
    fileSystem: { stands: false, reason: 'it was not asked for' },
    network: { stands: false, reason: 'it was not asked for' },
  },
  readable: [],
  writable: [],
}

export interface PutUp extends Enclosure {
  /** For the user. */
  readonly warnings: readonly string[]
}

const Note = z.object({
  cgroup: z.string().optional(),
  /** What was given to nft(8), to put it up again when somebody flushed all rules. */
  rules: z.string().optional(),
})
type Note = z.infer<typeof Note>

/** The session's server must have ended. @throws HowdahError, or the error of what could not be built */
export async function putUpWalls(
  spec: InstanceSpec,
  { walls, readable, writable }: IsolationSettings,
  tablespaces: readonly TablespaceBinding[],
): Promise<PutUp> {
  const outbound = await resolveOutbound((spec.allowOutbound ?? []).map(parseOutbound))
  const warnings = [...missingWalls(walls), ...unknownHosts(outbound.unknown)]
  const { mountPoint, cachePath, binaries, session } = spec
  const own = walls.network.stands ? ownCgroup() : undefined
  const cgroup = own && makeCgroup(groupName(session), own)
  const network = cgroup && networkRules({ session, cgroup, outbound: outbound.addresses })
  await note(spec, {
    ...(cgroup && { cgroup: cgroup.directory }),
    ...(network !== undefined && { rules: network }),
  })
  if (network !== undefined) await applyRules(network)
  const hosts = outbound.hosts.length > 0 ? hostsFile(outbound.hosts) : undefined
  const root = walls.fileSystem.stands
    ? makeSessionRoot({ mountPoint, cachePath, binaries, readable, writable, tablespaces, hosts })
    : undefined
  return { root, cgroup: cgroup?.directory, warnings }
}

/** Kills what is left behind the walls, and takes them down. */
export async function takeDownWalls(spec: Pick<InstanceSpec, 'session' | 'mountPoint' | 'cachePath'>) {
  const { cgroup, rules } = readNote(spec) ?? (await forgotten(spec.session))
  // In this order: as long as one of its processes lives, the network wall stands.
  const gone = cgroup === undefined || (await removeCgroup(cgroup))
  if (rules !== undefined && gone) await nft(['-f', '-'], removal(spec.session))
  if (gone) rmSync(notePath(spec), { force: true })
  removeSessionRoot(spec.cachePath)
}

/** What there is where the note went with the write cache. */
async function forgotten(session: string): Promise<Note> {
  const own = process.geteuid?.() === 0 ? ownCgroup() : undefined
  const cgroup = own && `${own.directory}/${groupName(session)}`
  if (cgroup === undefined || !existsSync(cgroup)) return {}
  const tables = await listTables().catch(() => new Set<string>())
  return { cgroup, ...(tables.has(tableName(session)) && { rules: '' }) }
}

const groupName = (session: string) => `howdah-${session}`

/** Kills all processes behind the walls at once. */
export function killEnclosed(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): void {
  const { cgroup } = readNote(spec) ?? {}
  if (cgroup !== undefined) killCgroup(cgroup)
}

/** Puts a network wall up again that somebody removed, as `nft flush ruleset` does. @returns whether it was gone */
export async function restoreNetworkWall(
  spec: Pick<InstanceSpec, 'session' | 'mountPoint' | 'cachePath'>,
  tables: ReadonlySet<string>,
): Promise<boolean> {
  const { rules } = readNote(spec) ?? {}
  if (rules === undefined || tables.has(tableName(spec.session))) return false
  await applyRules(rules)
  return true
}

export { listTables }

/** What is not kept apart by the kernel, in words; empty where all walls stand. */
export function missingWalls({ fileSystem, network }: Walls): string[] {
  const missing: string[] = []
  if (!fileSystem.stands)
    missing.push(
      `No wall keeps the instance from other files of this machine: ${fileSystem.reason}. What its user may write, it can write.`,
    )
  if (!network.stands)
    missing.push(
      `No wall keeps the instance from connecting elsewhere: ${network.reason}. Howdah's own settings keep it quiet; what its users run can connect.`,
    )
  return missing
}

function unknownHosts(names: readonly string[]): string[] {
  if (names.length === 0) return []
  return [`It cannot connect to ${names.join(', ')}: the target finds no address of that name.`]
}

/** nft(8) removes only what is there. */
function removal(session: string): string {
  const table = tableName(session)
  return `table inet ${table}\ndelete table inet ${table}\n`
}

const notePath = (spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>) =>
  `${instancePaths(spec).configuration}/walls.json`

async function note(spec: InstanceSpec, content: Note): Promise<void> {
  await writeFileAtomically(notePath(spec), JSON.stringify(content), 0o600, 'process')
}

function readNote(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): Note | undefined {
  try {
    return Note.parse(JSON.parse(readFileSync(notePath(spec), 'utf8')))
  } catch {
    return undefined
  }
}
