/** The agents that the coordinator knows: who they are, what they serve, and whether they are online. */
import { incompatibility, neededVersion } from '../messages/contract-version.ts'
import { OLDEST_CONTRACT_VERSION } from '../messages/definitions.ts'
import { type ErrorBody, HowdahError } from '../messages/errors.ts'
import type { AgentAddress } from '../messages/topology.ts'
import type { AgentView } from '../messages/values.ts'
import { isSettled } from './session.ts'
import type { Store } from './store/store.ts'

export interface AgentRegistry {
  /** Records a registration or a heartbeat. */
  online(agent: AgentView): Promise<void>
  /** Records which sessions are present on an agent: those that no session in the store explains are its orphans. */
  present(agent: AgentAddress, sessions: readonly string[]): Promise<void>
  /** Records an orderly shutdown. */
  offline(kind: AgentView['kind'], name: string): Promise<void>
  /** Removes an agent from the list; the store has removed it before. */
  forget(kind: AgentView['kind'], name: string): void
  list(): AgentView[]
  /** Reads from the store what other coordinators have recorded and removed. */
  refresh(): Promise<void>
  isOnline(agent: { kind: AgentView['kind']; name: string }): boolean
  /**
   * Why an agent cannot be given its commands: it is not connected, or its release and this one do not work together.
   * Without a command: one that every release understands.
   */
  obstacle(
    agent: { kind: AgentView['kind']; name: string },
    command?: { readonly type: string; readonly body: unknown },
  ): ErrorBody | undefined
  /**
   * The mount agent that serves a repository, one that can be given commands first.
   * @throws HowdahError `unknown_repository` | `agent_offline` | `agent_incompatible`
   */
  forRepository(repository: string): AgentView
  /** @throws HowdahError `unknown_target` | `agent_offline` | `agent_incompatible` */
  target(name: string): AgentView
}

/**
 * How old the time of the last heartbeat in the store may be. It is read only by a coordinator that takes over, and that one
 * gives every agent the time to be heard first.
 */
const SAVE_MS = 300_000

export interface RegistryOptions {
  readonly store: Store
  /** Milliseconds without a heartbeat after which an agent counts as offline. */
  readonly lostAfterMs: number
  /** Since when heartbeats can arrive, as `now()` counts; undefined while they cannot. */
  readonly listeningSince: () => number | undefined
  readonly now: () => number
  /** The version of the contract that a command needs. */
  readonly needs?: typeof neededVersion
  /** Whether an agent was shut out. Default: none was. */
  readonly isRevoked?: (agent: AgentAddress) => boolean
}

/**
 * While the coordinator or its broker is away no heartbeat can arrive, so a missing one proves nothing: an agent that
 * did not sign off counts as online until it misses its heartbeats after that.
 */
export async function openAgentRegistry(options: RegistryOptions): Promise<AgentRegistry> {
  const { store, lostAfterMs, listeningSince, now, isRevoked = () => false, needs = neededVersion } = options
  const agents = new Map<string, AgentView & { savedAt: number }>()
  /** As reported since the start. */
  const orphansOf = new Map<string, string[]>()
  for (const agent of await store.agents()) agents.set(key(agent), { ...agent, savedAt: now() })

  async function record(agent: AgentView): Promise<void> {
    const known = agents.get(key(agent))
    const fresh = known && now() - known.savedAt < SAVE_MS && sameExceptTime(known, agent)
    agents.set(key(agent), { ...agent, savedAt: fresh ? known.savedAt : now() })
    if (!fresh) await store.saveAgent(agent)
  }

  function isAlive(agent: AgentView): boolean {
    if (!agent.online || isRevoked(agent)) return false
    const silentSince = Math.max(Date.parse(agent.lastSeen), listeningSince() ?? now())
    return now() - silentSince < lostAfterMs
  }

  function views(): AgentView[] {
    return [...agents.values()].map(({ savedAt: _, revoked: __, ...agent }) => ({
      ...agent,
      online: isAlive(agent),
      ...(isRevoked(agent) && { revoked: true }),
    }))
  }

  function requireUsable(agent: AgentView, field: string): AgentView {
    if (agent.revoked) {
      throw new HowdahError('certificate_revoked', revokedMessage(agent.kind, agent.name), { field })
    }
    if (!agent.online) {
      throw new HowdahError(
        'agent_offline',
        `the ${agent.kind} agent "${agent.name}" on ${agent.host} is offline since ${agent.lastSeen}; start it there and try again`,
        { field },
      )
    }
    const reason = incompatibility(agent, OLDEST_CONTRACT_VERSION)
    if (reason !== undefined) throw new HowdahError('agent_incompatible', reason, { field })
    return agent
  }

  return {
    online(agent) {
      const orphans = orphansOf.get(key(agent)) ?? agents.get(key(agent))?.orphans ?? []
      const lastSeen = new Date(now()).toISOString()
      return record({ ...agent, ...(orphans.length > 0 && { orphans }), online: true, lastSeen })
    },
    async present(address, sessions) {
      const orphans: string[] = []
      for (const id of sessions) {
        const session = await store.session(id)
        if (!session || isSettled(session)) orphans.push(id)
      }
      // It may come before the agent's first heartbeat, on another queue.
      orphansOf.set(key(address), orphans)
      const known = agents.get(key(address))
      if (!known) return
      const { savedAt: _, orphans: __, ...agent } = known
      await record({ ...agent, ...(orphans.length > 0 && { orphans }) })
    },
    async offline(kind, name) {
      const known = agents.get(key({ kind, name }))
      if (!known) return
      const { savedAt: _, ...agent } = known
      await record({ ...agent, online: false, lastSeen: new Date(now()).toISOString() })
    },
    forget(kind, name) {
      agents.delete(key({ kind, name }))
    },
    list: views,
    async refresh() {
      const began = now()
      const stored = await store.agents()
      const kept = new Set(stored.map(key))
      for (const [name, { savedAt }] of agents) if (!kept.has(name) && savedAt < began) agents.delete(name)
      for (const agent of stored) {
        const known = agents.get(key(agent))
        if (!known || agent.lastSeen > known.lastSeen) agents.set(key(agent), { ...agent, savedAt: now() })
      }
    },
    isOnline(agent) {
      const known = agents.get(key(agent))
      return known !== undefined && isAlive(known)
    },
    obstacle({ kind, name }, command) {
      if (isRevoked({ kind, name })) {
        return { code: 'certificate_revoked', message: revokedMessage(kind, name) }
      }
      const known = agents.get(key({ kind, name }))
      const needed = command ? needs(command.type, command.body) : OLDEST_CONTRACT_VERSION
      const reason = known && incompatibility(known, needed)
      if (reason !== undefined) return { code: 'agent_incompatible', message: reason }
      if (known && isAlive(known)) return undefined
      const message = `the ${kind} agent "${name}" is not connected; the session resumes when it is back`
      return { code: 'agent_offline', message }
    },
    forRepository(repository) {
      const mounts = views().filter((agent) => agent.kind === 'mount')
      const serving = mounts.filter((agent) => agent.repositories?.some(({ name }) => name === repository))
      const isCompatible = (agent: AgentView) => incompatibility(agent, OLDEST_CONTRACT_VERSION) === undefined
      const online = serving.filter((agent) => agent.online)
      const agent = online.find(isCompatible) ?? online[0] ?? serving[0]
      if (agent) return requireUsable(agent, 'repository')
      const names = mounts.flatMap((mount) => mount.repositories?.map(({ name }) => name) ?? [])
      throw new HowdahError(
        'unknown_repository',
        `no mount agent serves a repository "${repository}"; ${listed('there are', names)}`,
        { field: 'repository' },
      )
    },
    target(name) {
      const targets = views().filter((agent) => agent.kind === 'target')
      const agent = targets.find((target) => target.name === name)
      if (agent) return requireUsable(agent, 'target')
      throw new HowdahError(
        'unknown_target',
        `no target agent "${name}" ever registered; ${listed(
          'there are',
          targets.map((target) => target.name),
        )}`,
        { field: 'target' },
      )
    },
  }
}

/** Why nothing can be done with an agent that was shut out. */
export function revokedMessage(kind: AgentView['kind'], name: string): string {
  return `the certificate of the ${kind} agent "${name}" was revoked; enrol it again ("howdah agent install --again"), or forget it`
}

function key(agent: { kind: string; name: string }): string {
  return `${agent.kind}.${agent.name}`
}

function sameExceptTime(a: AgentView & { savedAt?: number }, b: AgentView): boolean {
  const comparable = ({ lastSeen: _, savedAt: __, ...rest }: AgentView & { savedAt?: number }) =>
    JSON.stringify(Object.entries(rest).sort(([x], [y]) => x.localeCompare(y)))
  return comparable(a) === comparable(b)
}

function listed(prefix: string, names: readonly string[]): string {
  if (names.length === 0) return 'there is none yet'
  const shown = [...new Set(names)].sort().slice(0, 20)
  return `${prefix}: ${shown.join(', ')}${names.length > shown.length ? ', …' : ''}`
}
