/**
 * Another version on a host whose agents run: an upgrade by a bundle, or the way back to the version before. The host is
 * well afterwards when all its agents are online in that version, and none of their sessions is disrupted that was published.
 */
import { HowdahError } from '../../../messages/errors.ts'
import type { AgentView } from '../../../messages/values.ts'
import { pause } from '../../../messages/wait.ts'
import type { AgentKind } from '../host/host-paths.ts'
import type { RootShell } from '../ssh/elevation.ts'
import type { Bundle } from './bundle.ts'
import type { HostFacts } from './host-facts.ts'
import { type Changes, hostPrograms } from './host-programs.ts'
import { type Fleet, untilOnline } from './install-agent.ts'
import { unpackBundle, uploadBundle } from './upload.ts'

export interface ChangingFleet extends Fleet {
  /** State of each open session of a target, by id. */
  sessions(target: string): Promise<ReadonlyMap<string, string>>
}

export interface VersionChange {
  /** Of the host, as `user@host`. */
  readonly host: string
  readonly root: RootShell
  readonly facts: HostFacts
  readonly fleet: ChangingFleet
  readonly signal: AbortSignal
  /** Milliseconds until the agents must be online and their sessions well. */
  readonly healthyMs: number
  readonly progress: (text: string) => void
}

const POLL_MS = 1_000

/** @returns whether anything was to be done */
export async function upgradeHost(change: VersionChange, bundle: Bundle): Promise<boolean> {
  const { facts, host: name, root, signal, progress } = change
  requireAgents(change)
  if (!facts.versions.includes(bundle.version)) {
    await uploadBundle({ root, bundle, name, signal, progress: () => progress('uploading') })
    progress('unpacking')
    await unpackBundle({ root, bundle, name, signal })
  }
  return switchTo(change, bundle.version)
}

/** To the version before. @throws HowdahError `configuration`: there is none */
export async function rollBackHost(change: VersionChange): Promise<boolean> {
  const { facts, host } = change
  requireAgents(change)
  if (facts.previous === undefined || !facts.versions.includes(facts.previous))
    throw new HowdahError(
      'configuration',
      `${host} has no version before ${facts.installed ?? 'the present one'} to go back to.`,
    )
  return switchTo(change, facts.previous)
}

function requireAgents({ facts, host }: VersionChange): void {
  if (facts.package !== undefined)
    throw new HowdahError('configuration', `Howdah came to ${host} by the Debian package: use apt there.`)
  if (facts.installed === undefined || facts.agents.length === 0)
    throw new HowdahError(
      'unknown_agent',
      `no agent is installed on ${host}; "howdah agent install" does it.`,
    )
}

async function switchTo(change: VersionChange, version: string): Promise<boolean> {
  const { facts, fleet, host, root, signal, progress } = change
  const before = await Promise.all(facts.agents.map((agent) => stateOf(fleet, agent)))
  progress(`switching to ${version}`)
  // Its own program knows what the version needs.
  const { changed } = await hostPrograms(root, version, host, signal).run<Changes>('switch', [version])
  progress('waiting until it is online')
  const deadline = Date.now() + change.healthyMs
  for (const one of before)
    await untilWell(change, { ...one, version, isRestarted: changed.length > 0 }, deadline)
  return changed.length > 0
}

interface AgentState {
  readonly kind: AgentKind
  readonly name: string
  readonly view: AgentView | undefined
  readonly sessions: ReadonlyMap<string, string>
}

async function stateOf(
  fleet: ChangingFleet,
  { kind, name }: Pick<AgentState, 'kind' | 'name'>,
): Promise<AgentState> {
  const sessions = kind === 'target' ? await fleet.sessions(name) : new Map<string, string>()
  return { kind, name, view: await fleet.agent(kind, name), sessions }
}

/** An agent that was away before is not waited for. */
async function untilWell(
  { fleet, root, signal, host }: VersionChange,
  before: AgentState & { readonly version: string; readonly isRestarted: boolean },
  deadline: number,
): Promise<void> {
  const { kind, name, view, version, isRestarted } = before
  if (view?.online !== true) return
  await untilOnline(
    {
      ...{ fleet, root, signal, bundle: { version } },
      request: { kind, name, brokers: [], advertise: undefined, repositories: [] },
      onlineMs: Math.max(0, deadline - Date.now()),
    },
    isRestarted ? view.instance : undefined,
  )
  // A session that somebody unpublished meanwhile is well; one that lost something is disrupted.
  const disruptedBy = (now: ReadonlyMap<string, string>): string[] =>
    [...now].flatMap(([session, state]) =>
      state === 'disrupted' && before.sessions.get(session) === 'published' ? [session] : [],
    )
  for (;;) {
    const wrong = kind === 'target' ? disruptedBy(await fleet.sessions(name)) : []
    if (wrong.length === 0) return
    if (Date.now() > deadline)
      throw new HowdahError(
        'operation_failed',
        `sessions of the target "${name}" on ${host} were published, and are disrupted now: ${wrong.join(', ')}`,
      )
    await pause(POLL_MS, signal)
  }
}
