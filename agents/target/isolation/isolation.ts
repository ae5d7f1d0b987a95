/**
 * Isolation of a session's server from the rest of the machine: sets it up before the server starts and removes it after
 * the server has ended. Owns the session's control group, nftables table and root directory; never touches the mount.
 *
 * Two mechanisms: a mount namespace with a root directory of its own (root-layout.ts, session-root.ts), and a control
 * group with nftables rules (cgroup.ts, network-rules.ts). probe.ts finds out at start-up which of them work here;
 * isolated-command.ts starts the server inside them. What was set up is recorded beside the session's configuration, so
 * that any agent process can remove it. Removal is idempotent and synchronous: the libuv thread pool may be blocked by a
 * mount that hangs.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { z } from 'zod'
import { writeFileAtomically } from '../postgres/process/atomic-file.ts'
import { type InstanceSpec, instancePaths } from '../postgres/specification.ts'
import { killCgroup, makeCgroup, ownCgroup, removeCgroup } from './cgroup.ts'
import type { IsolationBoundary } from './isolated-command.ts'
import { networkRules, tableName } from './network-rules.ts'
import { applyRules, listTables, nft } from './nft.ts'
import { hostsFile, parseOutbound, resolveOutbound } from './outbound.ts'
import type { TablespaceBinding } from './root-layout.ts'
import { makeSessionRoot, removeSessionRoot } from './session-root.ts'

/** Whether an isolation mechanism works on this machine; if not, why. */
export type Mechanism = { readonly available: true } | { readonly available: false; readonly reason: string }

export interface IsolationSupport {
  /** Keeps the server from writing outside the session's directories. */
  readonly fileSystem: Mechanism
  /** Keeps the server from connecting to anything outside the session. */
  readonly network: Mechanism
}

export interface IsolationSettings {
  readonly support: IsolationSupport
  /** Directories of the agent's configuration. */
  readonly readable: readonly string[]
  readonly writable: readonly string[]
}

/** No mechanism in use. */
export const NO_ISOLATION: IsolationSettings = {
  support: {
    fileSystem: { available: false, reason: 'it was not asked for' },
    network: { available: false, reason: 'it was not asked for' },
  },
  readable: [],
  writable: [],
}

export interface AppliedIsolation extends IsolationBoundary {
  /** What is not isolated, and hosts that could not be resolved; for the user. */
  readonly warnings: readonly string[]
}

const IsolationRecord = z.object({
  cgroup: z.string().optional(),
  /** The commands given to nft(8), to restore the rules after somebody flushed them. */
  rules: z.string().optional(),
})
type IsolationRecord = z.infer<typeof IsolationRecord>

/**
 * The session's server must have ended.
 * @param program its executable, without symbolic links on the way
 * @throws HowdahError, or the error of the mechanism that failed
 */
export async function isolateServer(
  spec: InstanceSpec,
  program: string,
  { support, readable, writable }: IsolationSettings,
  tablespaces: readonly TablespaceBinding[],
): Promise<AppliedIsolation> {
  const outbound = await resolveOutbound((spec.allowOutbound ?? []).map(parseOutbound))
  const warnings = [...isolationWarnings(support), ...unresolvedHosts(outbound.unknown)]
  const { mountPoint, cachePath, session } = spec
  const own = support.network.available ? ownCgroup() : undefined
  const cgroup = own && makeCgroup(groupName(session), own)
  const rules = cgroup && networkRules({ session, cgroup, outbound: outbound.addresses })
  await writeRecord(spec, {
    ...(cgroup && { cgroup: cgroup.directory }),
    ...(rules !== undefined && { rules }),
  })
  if (rules !== undefined) await applyRules(rules)
  const hosts = outbound.hosts.length > 0 ? hostsFile(outbound.hosts) : undefined
  const root = support.fileSystem.available
    ? makeSessionRoot({
        mountPoint,
        cachePath,
        binaries: dirname(program),
        readable,
        writable,
        tablespaces,
        hosts,
      })
    : undefined
  return { root, cgroup: cgroup?.directory, warnings }
}

/** Kills the processes that are left in the isolation, and removes it. */
export async function removeIsolation(spec: Pick<InstanceSpec, 'session' | 'mountPoint' | 'cachePath'>) {
  const { cgroup, rules } = readRecord(spec) ?? (await findOrphaned(spec.session))
  // In this order: the rules stay as long as one of the session's processes lives.
  const isEmpty = cgroup === undefined || (await removeCgroup(cgroup))
  if (rules !== undefined && isEmpty) await nft(['-f', '-'], removal(spec.session))
  if (isEmpty) rmSync(recordPath(spec), { force: true })
  removeSessionRoot(spec.cachePath)
}

/** The isolation of a session whose record was lost with its write cache. */
async function findOrphaned(session: string): Promise<IsolationRecord> {
  const own = process.geteuid?.() === 0 ? ownCgroup() : undefined
  const cgroup = own && `${own.directory}/${groupName(session)}`
  if (cgroup === undefined || !existsSync(cgroup)) return {}
  const tables = await listTables().catch(() => new Set<string>())
  return { cgroup, ...(tables.has(tableName(session)) && { rules: '' }) }
}

const groupName = (session: string) => `howdah-${session}`

/** Kills all processes of the session's control group at once. */
export function killIsolated(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): void {
  const { cgroup } = readRecord(spec) ?? {}
  if (cgroup !== undefined) killCgroup(cgroup)
}

/** Applies the session's network rules again where they were removed, as by `nft flush ruleset`. @returns whether they were */
export async function restoreNetworkRules(
  spec: Pick<InstanceSpec, 'session' | 'mountPoint' | 'cachePath'>,
  tables: ReadonlySet<string>,
): Promise<boolean> {
  const { rules } = readRecord(spec) ?? {}
  if (rules === undefined || tables.has(tableName(spec.session))) return false
  await applyRules(rules)
  return true
}

/** One sentence for each mechanism that is missing. */
export function isolationWarnings({ fileSystem, network }: IsolationSupport): string[] {
  const missing: string[] = []
  if (!fileSystem.available)
    missing.push(
      `The instance is not isolated from other files of this machine: ${fileSystem.reason}. It can write whatever its user may write.`,
    )
  if (!network.available)
    missing.push(
      `The instance is not isolated from the network: ${network.reason}. Howdah's settings keep PostgreSQL itself from connecting elsewhere; what its users run can connect.`,
    )
  return missing
}

function unresolvedHosts(names: readonly string[]): string[] {
  if (names.length === 0) return []
  return [`The instance cannot connect to ${names.join(', ')}: the target could not resolve the name.`]
}

/** nft(8) removes only what is there. */
function removal(session: string): string {
  const table = tableName(session)
  return `table inet ${table}\ndelete table inet ${table}\n`
}

const recordPath = (spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>) =>
  `${instancePaths(spec).configuration}/isolation.json`

async function writeRecord(spec: InstanceSpec, record: IsolationRecord): Promise<void> {
  await writeFileAtomically(recordPath(spec), JSON.stringify(record), 0o600, 'process')
}

function readRecord(spec: Pick<InstanceSpec, 'mountPoint' | 'cachePath'>): IsolationRecord | undefined {
  try {
    return IsolationRecord.parse(JSON.parse(readFileSync(recordPath(spec), 'utf8')))
  } catch {
    return undefined
  }
}
