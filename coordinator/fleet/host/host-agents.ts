/** The agents of a host: which are set up, and what runs. */
import { existsSync } from 'node:fs'
import { AGENT_KINDS, type AgentKind, configurationFile, type HostPaths } from './host-paths.ts'
import {
  installedVersions,
  isPackaged,
  linkedVersion,
  processesOf,
  versionOfProcess,
} from './installed-versions.ts'
import type { Supervisor } from './supervisor.ts'

export interface AgentStatus {
  readonly kind: AgentKind
  readonly state: 'running' | 'stopped'
  readonly pid?: number
  /** That the process runs; missing: it is no longer in /opt/howdah. */
  readonly version?: string
}

export interface HostStatus {
  readonly agents: readonly AgentStatus[]
  readonly supervisor: Supervisor['name']
  readonly installedBy: 'package' | 'bundle'
  readonly current: string | null
  readonly previous: string | null
  readonly versions: readonly { readonly version: string; readonly processes: number }[]
}

/** The kinds that have a configuration here. */
export function agentsOfHost(paths: HostPaths): AgentKind[] {
  return AGENT_KINDS.filter((kind) => existsSync(configurationFile(paths, kind)))
}

export async function hostStatus(paths: HostPaths, supervisor: Supervisor): Promise<HostStatus> {
  return {
    agents: await Promise.all(agentsOfHost(paths).map((kind) => agentStatus(paths, supervisor, kind))),
    supervisor: supervisor.name,
    installedBy: isPackaged(paths) ? 'package' : 'bundle',
    current: linkedVersion(paths, 'current') ?? null,
    previous: linkedVersion(paths, 'previous') ?? null,
    versions: installedVersions(paths).map((version) => ({
      version,
      processes: processesOf(paths, version).length,
    })),
  }
}

export async function agentStatus(
  paths: HostPaths,
  supervisor: Supervisor,
  kind: AgentKind,
): Promise<AgentStatus> {
  const pid = await supervisor.process(kind)
  if (pid === undefined) return { kind, state: 'stopped' }
  const version = versionOfProcess(paths, pid)
  return { kind, state: 'running', pid, ...(version !== undefined && { version }) }
}
